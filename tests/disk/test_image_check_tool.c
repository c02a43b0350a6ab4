/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A9: qemu-img's opinion; its three rules are the verdict of fifty mutants each.
 *
 *   tool-corrupt   images that our own check accepts
 *   tool-refused   images that our own check refuses too: the tool is asked nevertheless, as if our check had a hole. And a false
 *                  tool on PATH that answers nonsense
 *   tool-died      the real one, of a few that our own check refuses too; a false one that each signal kills
 *
 * The false one looks around, too. And the socket that the image is read through has a client that breaks the protocol.
 */
#include "disk/test_image_check_seeds.h"

#include "disk/image_tool.h"
#include "disk/image_tool_private.h"

#include <signal.h>
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

/* ---- corruption: what only a count of the references finds ---- */

static void put_refcount(const Seed *seed, guint8 *bytes, guint64 cluster, guint64 value)
{
    guint order = seed->header.version == 3 ? seed->header.refcount_order : 4;
    if (order >= 3)
        put_be(bytes, seed->refblock + (cluster << (order - 3)), 1 << (order - 3), value);
    else
        bytes[seed->refblock + (cluster << order) / 8] &=
            (guint8) ~(((1u << (1u << order)) - 1) << ((cluster << order) % 8));
}

static guint64 data_cluster(const Seed *seed)
{
    return (vr_be64(seed->bytes + seed->l2) & VR_QCOW2_OFFSET_MASK) / seed->cluster;
}

/* FALSE: this seed has no such mutant. */
typedef gboolean (*Corrupt)(const Seed *seed, guint8 *bytes);

static gboolean header_is_free(const Seed *seed, guint8 *bytes)
{
    put_refcount(seed, bytes, 0, 0);
    return TRUE;
}

static gboolean reftable_is_free(const Seed *seed, guint8 *bytes)
{
    put_refcount(seed, bytes, seed->header.reftable_offset / seed->cluster, 0);
    return TRUE;
}

static gboolean refblock_is_free(const Seed *seed, guint8 *bytes)
{
    put_refcount(seed, bytes, seed->refblock / seed->cluster, 0);
    return TRUE;
}

static gboolean l1_is_free(const Seed *seed, guint8 *bytes)
{
    put_refcount(seed, bytes, seed->header.l1_offset / seed->cluster, 0);
    return TRUE;
}

static gboolean l2_is_free(const Seed *seed, guint8 *bytes)
{
    put_refcount(seed, bytes, seed->l2 / seed->cluster, 0);
    return TRUE;
}

static gboolean data_is_free(const Seed *seed, guint8 *bytes)
{
    put_refcount(seed, bytes, data_cluster(seed), 0);
    return TRUE;
}

static gboolean l2_is_said_to_be_shared(const Seed *seed, guint8 *bytes)
{
    bytes[seed->header.l1_offset] &= 0x7f;
    return TRUE;
}

static gboolean data_is_said_to_be_shared(const Seed *seed, guint8 *bytes)
{
    bytes[seed->l2] &= 0x7f;
    return TRUE;
}

static gboolean data_is_said_to_be_alone(const Seed *seed, guint8 *bytes)
{
    put_refcount(seed, bytes, data_cluster(seed), 2);
    return seed->header.version == 2 || seed->header.refcount_order >= 3;
}

/* Two places of the disk have one cluster, which has one reference: a write to one changes the other. */
static gboolean data_is_there_twice(const Seed *seed, guint8 *bytes)
{
    memcpy(bytes + seed->l2 + 8 * (guint64)seed->entry, bytes + seed->l2, seed->entry);
    return TRUE;
}

static void corruption_is_refused(void **state)
{
    static const Corrupt ways[] = {header_is_free,
                                   reftable_is_free,
                                   refblock_is_free,
                                   l1_is_free,
                                   l2_is_free,
                                   data_is_free,
                                   l2_is_said_to_be_shared,
                                   data_is_said_to_be_shared,
                                   data_is_said_to_be_alone,
                                   data_is_there_twice};
    guint count = 0;
    for (gsize s = 0; s < N_SEEDS; s++) {
        Seed seed;
        seed_make(*state, seed_options[s], &seed);
        for (gsize w = 0; w < G_N_ELEMENTS(ways); w++) {
            VrImageVerdict verdict;
            g_autofree guint8 *bytes = g_memdup2(seed.bytes, seed.size);
            if (!ways[w](&seed, bytes))
                continue;
            vr_autofd fd = file_of(bytes, seed.size);
            ask(fd, &verdict, NULL);
            if (verdict.rule != VR_RULE_TOOL_CORRUPT)
                fail_msg("way %zu of %s: %s %s", w, seed.what, vr_image_rule_name(verdict.rule), verdict.reason);
            count++;
        }
        g_free(seed.bytes);
    }
    print_message("%4u mutants: tool-corrupt\n", count);
    assert_true(count >= 50);
}

static void leaks_are_not_refused(void **state)
{
    Seed seed;
    VrImageVerdict verdict;
    g_autofree char *warning = NULL;
    seed_make(*state, "cluster_size=4k", &seed);
    guint64 unused = seed.size / 4096 + 3;
    put_refcount(&seed, seed.bytes, unused, 1);
    vr_autofd fd = file_of(seed.bytes, seed.size);
    assert_int_equal(ftruncate(fd, (off_t)(unused + 1) * 4096), 0);
    ask(fd, &verdict, &warning);
    assert_true(verdict.accepted);
    assert_non_null(warning);
    assert_non_null(strstr(warning, "1 clusters are leaked"));
    g_free(seed.bytes);
}

/* ---- a hole in our own check ---- */

static const struct {
    guint64 at;
    int width;
    guint64 value;
    int least_version;
} wrong_headers[] = {
    {4, 4, 0, 2},
    {4, 4, 4, 2},
    {4, 4, 0xffffffff, 2},
    {8, 8, G_GUINT64_CONSTANT(1) << 40, 2}, /* a backing name far outside */
    {20, 4, 8, 2},
    {20, 4, 22, 2},
    {20, 4, 63, 2},
    {24, 8, G_GUINT64_CONSTANT(1) << 62, 2},
    {24, 8, G_MAXUINT64 - 511, 2},
    {32, 4, 3, 2},
    {36, 4, 0, 2},
    {36, 4, 0x80000000, 2},
    {40, 8, 72, 2},
    {48, 8, 64, 2},
    {56, 4, 0, 2},
    {56, 4, 0xffffffff, 2},
    {60, 4, 0xffffffff, 2},
    {72, 8, G_GUINT64_CONSTANT(1) << 5, 3},
    {72, 8, G_GUINT64_CONSTANT(1) << 63, 3},
    {72, 8, 4, 3}, /* an external data file without a name */
    {96, 4, 7, 3},
    {96, 4, 0xffffffff, 3},
    {100, 4, 72, 3},
    {100, 4, 0xffffffff, 3},
    {104, 1, 2, 3},
};

/* Our check must refuse it; the tool is asked nevertheless. */
static void ask_as_if_accepted(const guint8 *bytes, gsize size, VrImageVerdict *verdict)
{
    GError *error = NULL;
    vr_autofd fd = file_of(bytes, size);
    assert_true(vr_image_check(fd, NULL, verdict, NULL));
    assert_false(verdict->accepted);
    *verdict = (VrImageVerdict){
        .accepted = TRUE, .format = VR_FORMAT_QCOW2, .file_size = size, .virtual_size = get_be(bytes, 24, 8)};
    if (!vr_image_tool_check(fd, verdict, NULL, &error))
        fail_msg("%s", error->message);
}

static void what_we_refuse_the_tool_refuses_too(void **state)
{
    guint count = 0;
    for (gsize s = 0; s < 4; s++) {
        Seed seed;
        seed_make(*state, seed_options[s], &seed);
        for (gsize i = 0; i < G_N_ELEMENTS(wrong_headers); i++) {
            VrImageVerdict verdict;
            g_autofree guint8 *bytes = g_memdup2(seed.bytes, seed.size);
            if ((int)seed.header.version < wrong_headers[i].least_version)
                continue;
            put_be(bytes, wrong_headers[i].at, wrong_headers[i].width, wrong_headers[i].value);
            ask_as_if_accepted(bytes, seed.size, &verdict);
            if (verdict.rule != VR_RULE_TOOL_REFUSED)
                fail_msg("header %zu of %s: %s %s", i, seed.what, vr_image_rule_name(verdict.rule), verdict.reason);
            count++;
        }
        g_free(seed.bytes);
    }
    print_message("%4u mutants: tool-refused\n", count);
    assert_true(count >= 50);
}

/* LUKS in the header, without a header of LUKS: qemu-img info 7.2 crashes, later ones refuse it. */
static void what_kills_the_tool_is_refused(void **state)
{
    guint died = 0;
    for (gsize s = 0; s < N_SEEDS; s++) {
        Seed seed;
        VrImageVerdict verdict;
        seed_make(*state, seed_options[s], &seed);
        put_be(seed.bytes, 32, 4, 2);
        ask_as_if_accepted(seed.bytes, seed.size, &verdict);
        if (verdict.rule != VR_RULE_TOOL_DIED && verdict.rule != VR_RULE_TOOL_REFUSED)
            fail_msg("LUKS in %s: %s %s", seed.what, vr_image_rule_name(verdict.rule), verdict.reason);
        died += verdict.rule == VR_RULE_TOOL_DIED;
        g_free(seed.bytes);
    }
    print_message("%4u mutants: tool-died, by qemu-img itself\n", died);
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

#define INFO(more) "{\"format\":\"qcow2\",\"virtual-size\":4194304" more "}"
#define GOOD_INFO "[ $1 = info ] && echo '" INFO("") "' && exit 0\n"

static void a_tool_that_lies_or_fails(void **state)
{
    TestDir *dir = *state;
    const struct {
        const char *script;
        VrImageRule rule;
        const char *text;
    } rows[] = {
        {"echo \"qemu-img: Could not open 'driver=qcow2': Image is corrupt\" >&2; exit 1", VR_RULE_TOOL_REFUSED,
         "does not open it (status 1): Image is corrupt"},
        {"exit 1", VR_RULE_TOOL_REFUSED, "does not open it (status 1)"},
        {"echo '" INFO("") "'; exit 1", VR_RULE_TOOL_REFUSED, "does not open it (status 1)"},
        {"exit 139", VR_RULE_TOOL_REFUSED, "does not open it (status 139)"},
        {"exec yes", VR_RULE_TOOL_REFUSED, "said more than"},
        {"exec yes >&2", VR_RULE_TOOL_REFUSED, "said more than"},
        {GOOD_INFO "exec yes", VR_RULE_TOOL_REFUSED, "said more than"},
        {GOOD_INFO "exit 1", VR_RULE_TOOL_REFUSED, "cannot check it (status 1)"},
        {GOOD_INFO "exit 63", VR_RULE_TOOL_REFUSED, "cannot check it (status 63)"},
        {GOOD_INFO "echo '{}'; exit 4", VR_RULE_TOOL_REFUSED, "cannot check it (status 4)"},
        {GOOD_INFO "echo no json", VR_RULE_TOOL_REFUSED, "check does not answer"},
        {GOOD_INFO "exit 0", VR_RULE_TOOL_REFUSED, "check does not answer"},
        {GOOD_INFO "echo '{\"corruptions\":'; exit 2", VR_RULE_TOOL_REFUSED, "check does not answer"},
        {GOOD_INFO "echo '{\"corruptions\":7}'; exit 2", VR_RULE_TOOL_CORRUPT, "7 corruptions"},
        {GOOD_INFO "echo '{\"corruptions\":7}'; exit 0", VR_RULE_TOOL_CORRUPT, "7 corruptions"},
        {GOOD_INFO "echo '{}'; exit 2", VR_RULE_TOOL_CORRUPT, "0 corruptions"},
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

static void an_answer_that_is_not_our_image(void **state)
{
    static const struct {
        const char *answer, *text;
    } rows[] = {
        {"", "JSON"},
        {" ", "JSON"},
        {"no json", "JSON"},
        {"{", "JSON"},
        {"{\"format\":\"qcow2\",\"virtual-size\":4194304", "JSON"},
        {INFO("") "}", "JSON"},
        {INFO("") INFO(""), "JSON"},
        {"{format:\"qcow2\",\"virtual-size\":4194304}", "JSON"},
        {"{\"format\":\"qcow2\",\"virtual-size\":99999999999999999999}", "JSON"},
        {"[]", "another format or size"},
        {"[" INFO("") "]", "another format or size"},
        {"{}", "another format or size"},
        {"{\"virtual-size\":4194304}", "another format or size"},
        {"{\"format\":\"raw\",\"virtual-size\":4194304}", "another format or size"},
        {"{\"format\":\"vmdk\",\"virtual-size\":4194304}", "another format or size"},
        {"{\"format\":\"QCOW2\",\"virtual-size\":4194304}", "another format or size"},
        {"{\"format\":\"qcow2 \",\"virtual-size\":4194304}", "another format or size"},
        {"{\"format\":\"\",\"virtual-size\":4194304}", "another format or size"},
        {"{\"format\":null,\"virtual-size\":4194304}", "another format or size"},
        {"{\"format\":[\"qcow2\"],\"virtual-size\":4194304}", "another format or size"},
        {"{\"format\":\"qcow2\"}", "another format or size"},
        {"{\"format\":\"qcow2\",\"virtual-size\":0}", "another format or size"},
        {"{\"format\":\"qcow2\",\"virtual-size\":-4194304}", "another format or size"},
        {"{\"format\":\"qcow2\",\"virtual-size\":4194303}", "another format or size"},
        {"{\"format\":\"qcow2\",\"virtual-size\":4194305}", "another format or size"},
        {"{\"format\":\"qcow2\",\"virtual-size\":4194304.0}", "another format or size"},
        {"{\"format\":\"qcow2\",\"virtual-size\":\"4194304\"}", "another format or size"},
        {"{\"format\":\"qcow2\",\"virtual-size\":null}", "another format or size"},
        {"{\"format\":\"qcow2\",\"virtual-size\":9223372036854775807}", "another format or size"},
        {INFO(",\"backing-filename\":\"x\""), "backing file"},
        {INFO(",\"encrypted\":true"), "encryption"},
        {INFO(",\"snapshots\":[1]"), "snapshot"},
    };
    TestDir *dir = *state;
    make_qcow2(dir, "a.qcow2", NULL, SEED_SIZE);
    vr_autofd fd = vr_open_beneath(dir->fd, "a.qcow2", O_RDONLY, 0, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *script = g_strdup_printf("printf '%%s' '%s'", rows[i].answer);
        use_tool(dir, script);
        expect(fd, VR_RULE_TOOL_REFUSED, rows[i].text);
    }
}

/* By each signal that kills, in each of the two questions. */
static void a_tool_that_dies(void **state)
{
    static const int signals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,    SIGTRAP, SIGABRT, SIGBUS,    SIGFPE,  SIGKILL,
                                  SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE,   SIGALRM, SIGTERM, SIGSTKFLT, SIGXCPU, SIGXFSZ,
                                  SIGPROF, SIGIO,   SIGPWR,  SIGVTALRM, SIGSYS,  34,      64};
    TestDir *dir = *state;
    guint count = 0;
    make_qcow2(dir, "a.qcow2", NULL, SEED_SIZE);
    vr_autofd fd = vr_open_beneath(dir->fd, "a.qcow2", O_RDONLY, 0, NULL);
    for (gsize i = 0; i < 2 * G_N_ELEMENTS(signals); i++) {
        int number = signals[i / 2];
        g_autofree char *script = g_strdup_printf("%skill -%d $$", i % 2 ? GOOD_INFO : "", number);
        g_autofree char *text = g_strdup_printf("signal %d ", number);
        use_tool(dir, script);
        expect(fd, VR_RULE_TOOL_DIED, text);
        count++;
    }
    print_message("%4u deaths of a false tool: tool-died\n", count);
    assert_true(count >= 50);
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
        dir_test(corruption_is_refused),
        dir_test(leaks_are_not_refused),
        dir_test(what_we_refuse_the_tool_refuses_too),
        dir_test(what_kills_the_tool_is_refused),
        path_test(a_tool_that_lies_or_fails),
        path_test(an_answer_that_is_not_our_image),
        path_test(a_tool_that_dies),
        path_test(the_tool_has_nothing),
        path_test(not_being_able_to_ask_is_an_error),
        cmocka_unit_test(a_client_that_breaks_the_protocol_is_hung_up_on),
        cmocka_unit_test(requests_stay_inside_the_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
