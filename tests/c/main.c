/* Runs the tests of the core; prints one line of totals; fails if a check failed. */
#include <string.h>

#include "check.h"

int64_t check_passed, check_failed;

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    {"core", test_core},
    {"params", test_params},
    {"net", test_net},
    {"merge", test_merge},
    {"route", test_route},
    {"kinds", test_route_kinds},
    {"torus", test_route_torus},
    {"queue", test_queue},
    {"cc", test_cc},
    {"cc_delay", test_cc_delay},
    {"cc_hpcc", test_cc_hpcc},
    {"cc_ib", test_cc_ib},
    {"coll", test_coll},
    {"coll_domains", test_coll_domains},
    {"coll_network", test_coll_network},
    {"program", test_program},
    {"classes", test_classes},
    {"run", test_run},
    {"srd", test_srd},
    {"voq", test_voq},
    {"flow", test_flow},
    {"extents", test_extents},
    {"faults", test_faults},
    {"lock", test_lock},
    {"lustre", test_lustre},
    {"store_target", test_store_target},
    {"store_layout", test_store_layout},
    {"store_state", test_store_state},
    {"threads", test_threads},
    {"store_run", test_store_run},
};

/* Without arguments all tests; else those named. */
int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        bool wanted = argc == 1;
        for (int a = 1; a < argc; a++)
            wanted = wanted || strcmp(argv[a], tests[i].name) == 0;
        if (!wanted)
            continue;
        const int64_t passed = check_passed, failed = check_failed;
        tests[i].run();
        printf("%-12s %" PRId64 " passed, %" PRId64 " failed\n", tests[i].name, check_passed - passed,
               check_failed - failed);
        fflush(stdout);
    }
    printf("%" PRId64 " passed, %" PRId64 " failed\n", check_passed, check_failed);
    return check_failed != 0;
}
