/* Parameter tables: resolution, errors, and what every table in the core must keep to. */
#include "check.h"
#include "core/param.h"

#include <string.h>

static const fab_param_t table[] = {
    {"size_bytes", "bytes", 100, 10, 1000, "a size", ""},
    {"wait_ps", "ps", 7, 0, 9, "a wait", ""},
    FAB_PARAM_END,
};

static void defaults_then_settings(void)
{
    fab_problems_t problems;
    fab_problems_clear(&problems);
    int64_t values[2] = {0};
    fab_param_resolve("room", "impl", table, NULL, 0, values, &problems);
    CHECK_EQ(values[0], 100);
    CHECK_EQ(values[1], 7);
    const char *const names[] = {"wait_ps", "size_bytes"};
    const int64_t edges[] = {0, 1000}, others[] = {3, 20};
    const fab_setting_t settings[] = {
        {"room", "impl", 2, names, edges, 0},
        {"room", "other", 2, names, others, 0},
        {"elsewhere", "impl", 2, names, others, 0},
        {"room", "impl", 1, names, others, 0}, /* the later one counts */
    };
    fab_param_resolve("room", "impl", table, settings, 3, values, &problems);
    CHECK_EQ(values[0], 1000);
    CHECK_EQ(values[1], 0);
    fab_param_resolve("room", "impl", table, settings, 4, values, &problems);
    CHECK_EQ(values[1], 3);
    CHECK_EQ(problems.count, 0);
}

static void all_problems_at_once(void)
{
    fab_problems_t problems;
    fab_problems_clear(&problems);
    int64_t values[2];
    const char *const names[] = {"wait_ps", "size_bytes", "nonsense", "size"};
    const int64_t wrong[] = {10, 9, 0, 0};
    const fab_setting_t setting = {"room", "impl", 4, names, wrong, 0};
    fab_param_resolve("room", "impl", table, &setting, 1, values, &problems);
    CHECK_EQ(problems.count, 4);
    CHECK(strstr(problems.text, "room.impl.wait_ps: found 10, allowed 0 to 9 ps\n") != NULL);
    CHECK(strstr(problems.text, "room.impl.size_bytes: found 9, allowed 10 to 1000 bytes\n") != NULL);
    CHECK(strstr(problems.text, "room.impl.nonsense: no such parameter\n") != NULL);
    CHECK_EQ(values[0], 100);
    CHECK_EQ(values[1], 7);
}

static void problems_have_an_end(void)
{
    fab_problems_t problems;
    fab_problems_clear(&problems);
    char line[2000];
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\0';
    for (int i = 0; i < 200; i++)
        fab_problems_add(&problems, "%d %s", i, line);
    CHECK_EQ(problems.count, 200);
    CHECK(problems.used < FAB_PROBLEMS_BYTES);
    CHECK_EQ(strlen(problems.text), problems.used);
    CHECK(problems.text[problems.used - 1] == '\n');
    fab_problems_clear(&problems);
    for (int i = 0; i < 200; i++)
        fab_problems_add(&problems, "%d", i);
    int lines = 0;
    for (const char *c = problems.text; *c; c++)
        lines += *c == '\n';
    CHECK_EQ(lines, FAB_PROBLEMS_KEPT);
    for (int code = FAB_E_INTERNAL; code <= 0; code++)
        CHECK(strcmp(fab_error_name(code), "an unknown error") != 0);
    CHECK(strcmp(fab_error_name(1), "an unknown error") == 0);
}

static bool ends_in_its_unit(const fab_param_t *p)
{
    static const struct {
        const char *suffix, *unit;
    } units[] = {{"_bytes", "bytes"}, {"_ps", "ps"}, {"_mbps", "Mb/s"}, {"_ppm", "ppm"}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        const size_t name = strlen(p->name), suffix = strlen(units[i].suffix);
        const bool named = name > suffix && strcmp(p->name + name - suffix, units[i].suffix) == 0;
        if (named || strcmp(p->unit, units[i].unit) == 0)
            return named && strcmp(p->unit, units[i].unit) == 0;
    }
    return true; /* counts and switches have units of their own */
}

static void every_table_is_sound(void)
{
    for (const fab_impl_t *const *i = fab_implementations; *i; i++) {
        const fab_impl_t *impl = *i;
        CHECK(impl->room && impl->impl && impl->summary && *impl->summary && impl->params);
        for (const fab_impl_t *const *j = i + 1; *j; j++)
            CHECK(strcmp(impl->room, (*j)->room) != 0 || strcmp(impl->impl, (*j)->impl) != 0);
        CHECK((impl->kinds != 0) == (strcmp(impl->room, "coll") == 0));
        for (const fab_param_t *p = impl->params; p->name; p++) {
            CHECK(p->least <= p->preset && p->preset <= p->most);
            CHECK(p->unit && p->meaning && *p->meaning && p->source);
            CHECK(ends_in_its_unit(p));
            for (const fab_param_t *q = p + 1; q->name; q++)
                CHECK(strcmp(p->name, q->name) != 0);
        }
    }
}

void test_params(void)
{
    defaults_then_settings();
    all_problems_at_once();
    problems_have_an_end();
    every_table_is_sound();
}
