"""A checkpoint through the fsspec file system: how long ranks wait, for the cache and for the servers.

Eight ranks of a Lustre-like file system write a shard each, rename it when it is safe, and read back their
own shard, which the client's cache answers, and that of the next rank, which comes from the servers.
"""

import fabricsim

MIB = 1 << 20
SHARD = 24 * MIB
RANKS = range(8)


def save(fs: fabricsim.FileSystem) -> tuple[int, int, int]:
    """Return how long a rank waited until its shard was in the cache, on the servers, and named; ps."""
    begun, path = fs.now(), f"/step-1/shard-{fs.rank}"
    with fs.open(f"{path}.tmp", "wb") as f:
        for _ in range(SHARD // MIB):
            f.write(bytes([fs.rank]) * MIB)
        cached = fs.now()
        f.fsync()
    stored = fs.now()
    fs.rename(f"{path}.tmp", path)
    return cached - begun, stored - begun, fs.now() - begun


def restore(fs: fabricsim.FileSystem, further: int) -> int:
    """Return how long it took to read the shard of a rank further on, ps."""
    begun, other = fs.now(), (fs.rank + further) % len(RANKS)
    assert fs.cat_file(f"/step-1/shard-{other}") == bytes([other]) * SHARD
    return fs.now() - begun


session = fabricsim.Session("demo-64-400g-lustre")
session.fs().mkdir("/step-1")
cached, stored, named = zip(*session.run(save, ranks=RANKS), strict=True)
own, other = (session.run(lambda fs, n=n: restore(fs, n), ranks=RANKS) for n in (0, 1))
for what, times in (
    ("shard in the cache", cached),
    ("on the servers", stored),
    ("renamed", named),
    ("own shard read", own),
    ("another's read", other),
):
    print(f"{what:18} {max(times) / 1e9:6.2f} ms")
client = session.stats(0)["client"]
print(f"rank 0: {client['rpcs']} RPCs, {client['cache_hit_bytes'] // MIB} MiB from the cache")
