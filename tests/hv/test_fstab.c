/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a guest's fstab names by device, and agents that mean no good. Row B11. */
#include "hv/support.h"

#include "hv/fstab.h"

/* ---- the lines ---- */

static const struct {
    const char *text, *found; /* NULL: none */
} files[] = {
    {"", NULL},
    {"\n\n#/dev/vdb /srv ext4\n", NULL},
    {"UUID=1 / ext4 defaults 0 1\nLABEL=data /srv ext4\n/dev/disk/by-id/virtio-1 /d ext4\n", NULL},
    {"/dev/mapper/vg-root / ext4\n/dev/vg/lv /x xfs\n/dev/md0 /y xfs\n/dev/sr0 /z iso9660\n/dev/shm /a tmpfs\n", NULL},
    {"/dev/vda1 / ext4 defaults 0 1\n", "/dev/vda1 on /"},
    {"/dev/vdb\t/srv ext4\n/dev/sdc2 none swap sw 0 0\n", "/dev/vdb on /srv, /dev/sdc2 on none"},
    {"/dev/hda1 /a x\n/dev/xvdf /b x\n/dev/nvme0n1p2 /c x\n", "/dev/hda1 on /a, /dev/xvdf on /b, /dev/nvme0n1p2 on /c"},
    {"  /dev/vdb1 /with\\040space ext4", "/dev/vdb1 on /with space"},
    {"/dev/vdb1\n", "/dev/vdb1 on "},
    {"/dev/vd /a x\n/dev/sd- /b x\n/dev/nvme /c x\nvdb /d x\n/dev/sdA /e x\n", NULL},
    {"/dev/vda\001\033[1m /\377\n", "/dev/vda??[1m on /\357\277\275"},
    {"/dev/vda 1 x\n/dev/vdb 2 x\n/dev/vdc 3 x\n/dev/vdd 4 x\n/dev/vde 5 x\n/dev/vdf 6 x\n/dev/vdg 7 x\n/dev/vdh 8 x\n",
     "/dev/vda on 1, /dev/vdb on 2, /dev/vdc on 3, /dev/vdd on 4, /dev/vde on 5, /dev/vdf on 6 and 2 more"},
};

static void lines_by_device(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *found = vr_fstab_devices(files[i].text, strlen(files[i].text));
        if (g_strcmp0(found, files[i].found) != 0)
            fail_msg("file %zu: \"%s\"", i, found ? found : "(none)");
    }
}

/* A line longer than any buffer, bytes of NUL, a cut at each place: nothing is read behind the end, and what is told stays short. */
static void any_bytes(void **state)
{
    g_autofree char *longest = g_malloc(64 * 1024);
    g_autoptr(GRand) random = g_rand_new_with_seed(1);

    memset(longest, 'a', 64 * 1024);
    memcpy(longest, "/dev/vdb ", 9);
    g_autofree char *one = vr_fstab_devices(longest, 64 * 1024);
    assert_true(strlen(one) < 200);
    for (int i = 0; i < 2000; i++) {
        gsize length = (gsize)g_rand_int_range(random, 0, 500);
        g_autofree char *bytes = g_malloc(length + !length); /* no byte more, for ASan */
        for (gsize j = 0; j < length; j++)
            bytes[j] = "/dev/vdab \n\t\\040#\0\377"[g_rand_int_range(random, 0, 19)];
        g_autofree char *found = vr_fstab_devices(bytes, length);
        assert_true(found == NULL || (strlen(found) < 2000 && g_utf8_validate(found, -1, NULL)));
    }
}

/* ---- through the agent ---- */

typedef struct {
    VrHv hv;
    const char *const *answers; /* one after the other, the last one again and again; NULL: VR_ERROR_AGENT after 1 s */
    guint n, calls;
    gboolean closed;
} Agent;

static char *agent_answer(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    Agent *agent = (Agent *)hv;
    const char *text = agent->answers[MIN(agent->calls, agent->n - 1)];

    agent->calls++;
    agent->closed |= strstr(command, "guest-file-close") != NULL;
    if (agent->calls == 1)
        assert_non_null(strstr(command, "\"path\":\"/etc/fstab\",\"mode\":\"r\""));
    if (text != NULL)
        return g_strdup(text);
    fake_now_ms += 1000;
    g_set_error_literal(error, VR_ERROR, VR_ERROR_AGENT, "scripted silence");
    return NULL;
}

static const VrHvOps agent_ops = {.agent = agent_answer};

#define OPENED "{\"return\":7}"
#define DONE "{\"return\":{}}"
#define ASK(...)                                                                                                       \
    const char *const answers[] = {__VA_ARGS__};                                                                       \
    Agent agent = {{&agent_ops}, answers, G_N_ELEMENTS(answers), 0, FALSE};                                            \
    g_autofree char *found = vr_agent_fstab_devices(&agent.hv, UUID, 3, &error)

static void an_agent_that_answers(void **state)
{
    GError *error = NULL;
    /* "/dev/vdb /srv ext4\n", then "/dev/sdc /x ext4\n" */
    ASK(OPENED, "{\"return\":{\"count\":19,\"buf-b64\":\"L2Rldi92ZGIgL3NydiBleHQ0Cg==\",\"eof\":false}}",
        "{\"return\":{\"count\":17,\"buf-b64\":\"L2Rldi9zZGMgL3ggZXh0NAo=\",\"eof\":true}}", DONE);

    expect_no_error(error);
    assert_string_equal(found, "/dev/vdb on /srv, /dev/sdc on /x");
    assert_true(agent.closed);
}

static void an_empty_one(void **state)
{
    GError *error = NULL;
    ASK(OPENED, "{\"return\":{\"count\":0,\"buf-b64\":\"\",\"eof\":true}}", DONE);

    expect_no_error(error);
    assert_null(found);
}

static void an_agent_that_refuses(void **state)
{
    GError *error = NULL;
    ASK("{\"error\":{\"class\":\"GenericError\",\"desc\":\"guest-file-open has been disabled\"}}");

    assert_null(found);
    expect_error(&error, VR_ERROR_AGENT, "no 'return'");
    assert_int_equal(agent.calls, 1);
}

static void an_agent_that_falls_silent(void **state)
{
    GError *error = NULL;
    ASK(OPENED, NULL);

    assert_null(found);
    expect_error(&error, VR_ERROR_AGENT, "scripted silence");
}

/* A file without an end: it is over at 64 KiB, or with the time. */
static void a_file_without_an_end(void **state)
{
    GError *error = NULL;
    g_autofree char *much = g_strnfill(40000, 'A');
    g_autofree char *piece = g_strdup_printf("{\"return\":{\"count\":30000,\"buf-b64\":\"%s\",\"eof\":false}}", much);
    ASK(OPENED, piece);

    assert_null(found);
    expect_error(&error, VR_ERROR_AGENT, "larger than 65536 bytes");
    assert_int_equal(agent.calls, 5);
    assert_true(agent.closed);
}

#define clock_test(f) cmocka_unit_test_setup_teardown(f, use_fake_clock, use_real_clock)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_by_device), cmocka_unit_test(any_bytes),       clock_test(an_agent_that_answers),
        clock_test(an_empty_one),          clock_test(an_agent_that_refuses), clock_test(an_agent_that_falls_silent),
        clock_test(a_file_without_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
