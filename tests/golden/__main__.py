"""``python tests/golden`` writes digests.json anew; with ``--print`` it prints, and writes nothing."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fabricsim._core import engine
from golden import DIGESTS, digests, kept

now = digests()
if "--print" in sys.argv[1:]:
    print(json.dumps({"engine": engine.__file__, "digests": now}))
else:
    before = kept() if DIGESTS.exists() else {}
    DIGESTS.write_text(json.dumps(now, indent=2) + "\n")
    changed = [name for name in now if before.get(name) != now[name]]
    print(
        "\n".join(f"{name}: {before.get(name, 'new')} -> {now[name]}" for name in changed)
        or "nothing changed"
    )
    if changed:
        print('Say why in CHANGELOG.md under "Changes to results".')
