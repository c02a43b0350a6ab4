/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A9: qemu-img's opinion. The real one over good, leaking and corrupt images; a false one on PATH that dies, lies and looks
 * around; and the socket that it reads the image through, with a client that breaks the protocol.
 */
#include "disk/test_image_check_seeds.h"

#include "disk/image_tool.h"
#include "disk/image_tool_private.h"

#include <sys/mman.h>
#include <sys/socket.h>

static int file_of(const void *bytes, gsize length)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(vr_write_all(fd, bytes, length, "a test image", NULL));
    assert_int_equal(fchmod(fd, 0600), 0);
    return fd;
}

/* Our check, which must accept, then the tool's. */
static void ask(int fd, VrImageVerdict *verdict, char **warning)
{
    GError *error = NULL;
    assert_true(vr_image_check(fd, NULL, verdict, NULL));
    if (!verdict->accepted)
        fail_msg("refused before: %s", verdict->reason);
    if (!vr_image_tool_check(fd, verdict, warning, &error))
        fail_msg("%s", error->message);
}

static void expect(int fd, VrImageRule rule, const char *text)
{
    VrImageVerdict verdict;
    ask(fd, &verdict, NULL);
    if (verdict.rule != rule || verdict.accepted != (rule == VR_RULE_NONE) || !strstr(verdict.reason, text))
        fail_msg("%s (%s) where %s (%s) was expected", vr_image_rule_name(verdict.rule), verdict.reason,
                 vr_image_rule_name(rule), text);
}

/* ---- the real one ---- */

static void good_images_pass_whoever_may_read_them(void **state)
{
    TestDir *dir = *state;
    make_qcow2(dir, "a.qcow2", NULL, SEED_SIZE);
    make_raw(dir, "a.img", MIB + 512, 3);
    assert_int_equal(fchmod(dir->fd, 0700), 0);
    const char *names[] = {"a.qcow2", "a.img"};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        vr_autofd fd = vr_open_beneath(dir->fd, names[i], O_RDONLY, 0, NULL);
        assert_int_equal(fchmod(fd, 0600), 0);
        expect(fd, VR_RULE_NONE, "");
    }
}

static void every_seed_passes(void **state)
{
    for (gsize i = 0; i < N_SEEDS; i++) {
        Seed seed;
        char *warning = NULL;
        VrImageVerdict verdict;
        seed_make(*state, seed_options[i], &seed);
        vr_autofd fd = file_of(seed.bytes, seed.size);
        ask(fd, &verdict, &warning);
        if (!verdict.accepted || warning)
            fail_msg("%s: %s%s", seed.what, verdict.reason, warning ? warning : "");
        g_free(seed.bytes);
    }
}

static void corruption_is_refused_and_leaks_are_not(void **state)
{
    Seed seed;
    VrImageVerdict verdict;
    g_autofree char *warning = NULL;
    seed_make(*state, "cluster_size=4k", &seed);
    for (guint i = 0; i < 52; i++) { /* refcounts of 16 bits: those of its first clusters */
        g_autofree guint8 *bytes = g_memdup2(seed.bytes, seed.size);
        put_be(bytes, seed.refblock + 2 * (guint64)(i % 26), 2, i / 26 * 2);
        vr_autofd fd = file_of(bytes, seed.size);
        ask(fd, &verdict, NULL);
        if (i < 26 && verdict.rule != VR_RULE_TOOL_CORRUPT)
            fail_msg("refcount 0 of cluster %u: %s %s", i, vr_image_rule_name(verdict.rule), verdict.reason);
    }
    guint64 unused = seed.size / 4096 + 3;
    put_be(seed.bytes, seed.refblock + 2 * unused, 2, 1);
    vr_autofd fd = file_of(seed.bytes, seed.size);
    assert_int_equal(ftruncate(fd, (off_t)(unused + 1) * 4096), 0);
    ask(fd, &verdict, &warning);
    assert_true(verdict.accepted);
    assert_non_null(warning);
    assert_non_null(strstr(warning, "1 clusters are leaked"));
    g_free(seed.bytes);
}

/* ---- a false one ---- */

static char *old_path;

static void use_tool(const TestDir *dir, const char *script)
{
    g_autofree char *path = in_dir(dir, "qemu-img");
    g_autofree char *text = g_strconcat("#!/bin/sh\n", script, "\n", NULL);
    g_autofree char *search = g_strconcat(dir->path, ":", old_path, NULL);
    put_file(dir, "qemu-img", text, strlen(text));
    assert_int_equal(chmod(path, 0755), 0);
    assert_int_equal(chmod(dir->path, 0711), 0);
    g_setenv("PATH", search, TRUE);
}

static int path_setup(void **state)
{
    old_path = g_strdup(g_getenv("PATH"));
    return test_dir_setup(state);
}

static int path_teardown(void **state)
{
    g_setenv("PATH", old_path, TRUE);
    g_clear_pointer(&old_path, g_free);
    return test_dir_teardown(state);
}

#define GOOD_INFO "[ $1 = info ] && echo '{\"format\":\"qcow2\",\"virtual-size\":4194304}' && exit 0\n"

static void a_tool_that_dies_lies_or_fails(void **state)
{
    TestDir *dir = *state;
    const struct {
        const char *script;
        VrImageRule rule;
        const char *text;
    } rows[] = {
        {"kill -SEGV $$", VR_RULE_TOOL_DIED, "signal 11"},
        {GOOD_INFO "kill -ABRT $$", VR_RULE_TOOL_DIED, "signal 6"},
        {"echo \"qemu-img: Could not open 'driver=qcow2': Image is corrupt\" >&2; exit 1", VR_RULE_TOOL_REFUSED,
         "does not open it (status 1): Image is corrupt"},
        {"exit 1", VR_RULE_TOOL_REFUSED, "does not open it (status 1)"},
        {"echo no json", VR_RULE_TOOL_REFUSED, "JSON"},
        {"echo '{\"format\":\"raw\",\"virtual-size\":4194304}'", VR_RULE_TOOL_REFUSED, "another format or size"},
        {"echo '{\"format\":\"qcow2\",\"virtual-size\":512}'", VR_RULE_TOOL_REFUSED, "another format or size"},
        {"echo '[]'", VR_RULE_TOOL_REFUSED, "another format or size"},
        {"echo '{\"format\":\"qcow2\",\"virtual-size\":4194304,\"backing-filename\":\"x\"}'", VR_RULE_TOOL_REFUSED,
         "backing file"},
        {"echo '{\"format\":\"qcow2\",\"virtual-size\":4194304,\"encrypted\":true}'", VR_RULE_TOOL_REFUSED,
         "encryption"},
        {"echo '{\"format\":\"qcow2\",\"virtual-size\":4194304,\"snapshots\":[1]}'", VR_RULE_TOOL_REFUSED, "snapshot"},
        {GOOD_INFO "exit 63", VR_RULE_TOOL_REFUSED, "cannot check it (status 63)"},
        {GOOD_INFO "echo no json", VR_RULE_TOOL_REFUSED, "check does not answer"},
        {GOOD_INFO "echo '{\"corruptions\":7}'; exit 2", VR_RULE_TOOL_CORRUPT, "7 corruptions"},
        {GOOD_INFO "echo '{\"corruptions\":7}'; exit 0", VR_RULE_TOOL_CORRUPT, "7 corruptions"},
        {GOOD_INFO "echo '{\"leaks\":7}'; exit 3", VR_RULE_NONE, ""},
        {GOOD_INFO "echo '{}'; exit 0", VR_RULE_NONE, ""},
    };
    make_qcow2(dir, "a.qcow2", NULL, SEED_SIZE);
    vr_autofd fd = vr_open_beneath(dir->fd, "a.qcow2", O_RDONLY, 0, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        use_tool(dir, rows[i].script);
        expect(fd, rows[i].rule, rows[i].text);
    }
}

/* S3: no user, no group, no file but the image, a limit on memory and on time. */
static void the_tool_has_nothing(void **state)
{
    TestDir *dir = *state;
    g_autofree char *secret = in_dir(dir, "secret");
    make_qcow2(dir, "a.qcow2", NULL, SEED_SIZE);
    put_file(dir, "secret", "x", 1);
    assert_int_equal(chmod(secret, 0600), 0);
    g_autofree char *script =
        g_strdup_printf("echo \"$(id -u) $(id -G) $(ulimit -v) $(ulimit -t) $(cat %s 2>&1 | grep -o denied)"
                        " $(grep NoNewPrivs /proc/self/status | tail -c 2)\" >&2; exit 1",
                        secret);
    vr_autofd fd = vr_open_beneath(dir->fd, "a.qcow2", O_RDONLY, 0, NULL);
    use_tool(dir, script);
    if (geteuid() == 0)
        expect(fd, VR_RULE_TOOL_REFUSED, "65534 65534 1048576 30 denied 1");
    else
        expect(fd, VR_RULE_TOOL_REFUSED, " 1048576 30 ");
}

static void not_being_able_to_ask_is_an_error(void **state)
{
    TestDir *dir = *state;
    GError *error = NULL;
    VrImageVerdict verdict;
    make_qcow2(dir, "a.qcow2", NULL, SEED_SIZE);
    vr_autofd fd = vr_open_beneath(dir->fd, "a.qcow2", O_RDONLY, 0, NULL);
    assert_true(vr_image_check(fd, NULL, &verdict, NULL));
    vr_autofd unreadable = vr_open_beneath(dir->fd, "a.qcow2", O_WRONLY, 0, NULL);
    assert_false(vr_image_tool_check(unreadable, &verdict, NULL, &error));
    expect_error(&error, VR_ERROR_IO, "cannot ask qemu-img");
    g_setenv("PATH", "/nonexistent", TRUE);
    assert_false(vr_image_tool_check(fd, &verdict, NULL, &error));
    expect_error(&error, VR_ERROR_CHILD, "not installed");
    g_setenv("PATH", old_path, TRUE);
}

/* ---- the socket ---- */

typedef struct {
    VrToolNbd *nbd;
    int image, fd; /* fd: the client's end, the server's */
} Client;

static Client connect_to_server(void)
{
    static guint8 image[200000];
    guint8 greeting[18];
    Client c = {.image = file_of(image, sizeof image)};
    c.nbd = vr_tool_nbd_start(c.image, sizeof image, NULL);
    assert_non_null(c.nbd);
    c.fd = vr_tool_nbd_child_fd(c.nbd);
    assert_int_equal(recv(c.fd, greeting, sizeof greeting, MSG_WAITALL), sizeof greeting);
    assert_memory_equal(greeting, "NBDMAGICIHAVEOPT\0\3", 18);
    return c;
}

static void hang_up(Client *c)
{
    assert_true(vr_tool_nbd_stop(c->nbd, NULL));
    vr_fd_clear(&c->image);
}

static void say(const Client *c, const void *data, gsize length)
{
    assert_int_equal(send(c->fd, data, length, MSG_NOSIGNAL), length);
}

static void say_option(const Client *c, guint32 option, guint32 length)
{
    guint8 bytes[16];
    memcpy(bytes, "IHAVEOPT", 8);
    put_be(bytes, 8, 4, option);
    put_be(bytes, 12, 4, length);
    say(c, bytes, sizeof bytes);
}

static void say_request(const Client *c, guint16 command, guint64 offset, guint32 length)
{
    guint8 bytes[28] = {0};
    put_be(bytes, 0, 4, 0x25609513);
    put_be(bytes, 6, 2, command);
    put_be(bytes, 8, 8, 0x4711);
    put_be(bytes, 16, 8, offset);
    put_be(bytes, 24, 4, length);
    say(c, bytes, sizeof bytes);
}

static void expect_end(const Client *c)
{
    guint8 byte[1];
    assert_int_equal(recv(c->fd, byte, 1, 0), 0);
}

static void expect_option_reply(const Client *c, guint32 type, gsize length)
{
    guint8 bytes[64];
    assert_int_equal(recv(c->fd, bytes, 20 + length, MSG_WAITALL), 20 + length);
    assert_int_equal(get_be(bytes, 12, 4), type);
}

static void expect_reply(const Client *c, guint32 error, gsize length)
{
    guint8 bytes[16];
    g_autofree guint8 *data = g_malloc(length + 1);
    assert_int_equal(recv(c->fd, bytes, sizeof bytes, MSG_WAITALL), sizeof bytes);
    assert_int_equal(get_be(bytes, 0, 4), 0x67446698);
    assert_int_equal(get_be(bytes, 4, 4), error);
    assert_int_equal(get_be(bytes, 8, 8), 0x4711);
    if (length > 0)
        assert_int_equal(recv(c->fd, data, length, MSG_WAITALL), length);
}

static Client connect_and_go(void)
{
    Client c = connect_to_server();
    say(&c, "\0\0\0\3", 4);
    say_option(&c, 8, 0);
    expect_option_reply(&c, 0x80000001, 0);
    say_option(&c, 7, 0);
    expect_option_reply(&c, 3, 12);
    expect_option_reply(&c, 1, 0);
    return c;
}

static void a_client_that_breaks_the_protocol_is_hung_up_on(void **state)
{
    Client c = connect_to_server();
    say(&c, "\377\377\377\377", 4);
    expect_end(&c);
    hang_up(&c);
    c = connect_to_server();
    say(&c, "\0\0\0\3", 4);
    say(&c, "0123456789abcdef", 16);
    expect_end(&c);
    hang_up(&c);
    c = connect_to_server();
    say(&c, "\0\0\0\3", 4);
    say_option(&c, 1, G_MAXUINT32);
    expect_end(&c);
    hang_up(&c);
    c = connect_to_server();
    say(&c, "\0\0\0\3", 4);
    for (int i = 0; i < 64; i++) {
        say_option(&c, 99, 0);
        expect_option_reply(&c, 0x80000001, 0);
    }
    expect_end(&c);
    hang_up(&c);
}

static void requests_stay_inside_the_image(void **state)
{
    const struct {
        guint64 offset;
        guint32 length, error;
    } rows[] = {{0, 1, 0},       {199999, 1, 0},       {0, 200000, 0},       {0, 0, 22},      {200000, 1, 22},
                {199999, 2, 22}, {G_MAXUINT64, 1, 22}, {0, G_MAXUINT32, 22}, {0, 200001, 22}, {G_MAXUINT64 - 1, 4, 22}};
    Client c = connect_and_go();
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        say_request(&c, 0, rows[i].offset, rows[i].length);
        expect_reply(&c, rows[i].error, rows[i].error ? 0 : rows[i].length);
    }
    say_request(&c, 1, 0, 512); /* a write */
    expect_end(&c);
    hang_up(&c);
    c = connect_and_go();
    say(&c, "0123456789012345678901234567", 28);
    expect_end(&c);
    hang_up(&c);
    c = connect_and_go();
    say_request(&c, 0, 0, 200000); /* nobody takes the answer */
    hang_up(&c);
}

#define path_test(f) cmocka_unit_test_setup_teardown(f, path_setup, path_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        dir_test(good_images_pass_whoever_may_read_them),
        dir_test(every_seed_passes),
        dir_test(corruption_is_refused_and_leaks_are_not),
        path_test(a_tool_that_dies_lies_or_fails),
        path_test(the_tool_has_nothing),
        path_test(not_being_able_to_ask_is_an_error),
        cmocka_unit_test(a_client_that_breaks_the_protocol_is_hung_up_on),
        cmocka_unit_test(requests_stay_inside_the_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
