/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files of a guest through its agent (rows C6, C8): a real shell, find and stat on real files, and lists from a guest that means no good. */
#include "hv/support.h"

#include "base/child.h"
#include "hv/guest_files.h"
#include "orchestrator/host_agent.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET "key-of-the-guest"

typedef struct {
    HostAgent *agent;
    char *top;
    const char *listed; /* instead of what the first command says; NULL: what it says */
    guint lists;        /* so far */
    void (*between)(const char *top);
    guint changes; /* so often */
    char *path;    /* of the environment */
} Guest;

static Guest guest;

static void shell(const char *script)
{
    const char *argv[] = {"sh", "-c", script, "sh", guest.top, NULL};
    g_autoptr(GError) error = NULL;

    vr_child_run(argv, NULL, NULL, &error);
    expect_no_error(error);
}

static char *op_agent(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    if (strstr(command, "guest-exec\"") && strstr(command, "find")) {
        guest.lists++;
        if (guest.lists % 2 == 0 && guest.changes > 0) {
            guest.changes--;
            guest.between(guest.top);
        }
    }
    if (guest.listed && strstr(command, "guest-exec-status")) {
        g_autofree char *base64 = g_base64_encode((const guchar *)guest.listed, strlen(guest.listed));
        return g_strdup_printf("{\"return\": {\"exited\": true, \"exitcode\": 0, \"out-data\": \"%s\"}}", base64);
    }
    return host_agent_answer(guest.agent, command, error);
}

static int set_up(void **state)
{
    static const VrHvOps ops = {.agent = op_agent};

    use_real_clock(state);
    guest = (Guest){.agent = host_agent_new("/nowhere"),
                    .top = g_dir_make_tmp("vr-guest-XXXXXX", NULL),
                    .path = g_strdup(g_getenv("PATH"))};
    guest.agent->hv.ops = &ops;
    shell("cd \"$1\" && mkdir -p etc/ssh var/shop/deep 'var/shop/with space' && printf " SECRET
          " > etc/ssh/key && chmod 0600 etc/ssh/key && : > var/shop/empty && chmod 0750 var/shop && "
          "ln -s ../etc/ssh/key var/shop/link && ln -s /nowhere/at/all 'var/shop/with space/dangling' && ln -s shop "
          "var/alias && head -c 200000 /dev/zero | tr '\\0' z > var/shop/deep/large && chmod 0644 var/shop/deep/large");
    return 0;
}

static int tear_down(void **state)
{
    g_setenv("PATH", guest.path, TRUE);
    shell("rm -rf -- \"$1\"");
    host_agent_free(guest.agent);
    g_free(guest.top);
    g_free(guest.path);
    return 0;
}

/* `paths`: below the guest's root, with blanks between them. */
static GPtrArray *read_paths(const char *paths, GError **error)
{
    g_auto(GStrv) words = g_strsplit(paths, " ", -1);
    GPtrArray *files = NULL;

    for (char **word = words; *word; word++) {
        char *whole = g_strconcat(guest.top, *word, NULL);
        g_free(*word);
        *word = whole;
    }
    if (!vr_agent_read_files(&guest.agent->hv, UUID, (const char *const *)words, vr_clock_now_ms() + 60000, NULL,
                             &files, error))
        return NULL;
    return files;
}

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "PATH KIND MODE OWNER BYTES" a line, sorted; BYTES: up to 20 of them, else how many. */
static char *told(const GPtrArray *files)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < files->len; i++) {
        const VrGuestFile *file = g_ptr_array_index(files, i);
        gsize length = g_bytes_get_size(file->data);
        g_autofree char *bytes = length > 20 ? g_strdup_printf("%zu", length)
                                             : g_strndup(length ? g_bytes_get_data(file->data, NULL) : "", length);
        g_ptr_array_add(lines, g_strdup_printf("%s %c %04o %s %s", file->path + strlen(guest.top), "rdl"[file->kind],
                                               file -> mode, file -> owner, bytes));
    }
    g_ptr_array_sort(lines, by_text);
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static void expect_files(const char *paths, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) files = read_paths(paths, &error);
    g_autofree char *text = NULL;

    expect_no_error(error);
    text = told(files);
    assert_string_equal(text, expected);
}

static void expect_refused(const char *paths, int code, const char *text)
{
    g_autoptr(GError) error = NULL;

    assert_null(read_paths(paths, &error));
    expect_error(&error, code, text);
}

static void files_links_and_directories(void **state) /* C6, C8 */
{
    expect_files("/etc/ssh/key", "/etc/ssh/key r 0600 0:0 " SECRET);
    expect_files("/etc/none /etc/ssh/key /etc/none/either", "/etc/ssh/key r 0600 0:0 " SECRET);
    expect_files("/etc/none", "");
    expect_files("/var/shop", "/var/shop d 0750 0:0 \n"
                              "/var/shop/deep d 0755 0:0 \n"
                              "/var/shop/deep/large r 0644 0:0 200000\n"
                              "/var/shop/empty r 0644 0:0 \n"
                              "/var/shop/link l 0000 0:0 ../etc/ssh/key\n"
                              "/var/shop/with space d 0755 0:0 \n"
                              "/var/shop/with space/dangling l 0000 0:0 /nowhere/at/all");
    expect_files("/var/alias", "/var/alias l 0000 0:0 shop");         /* not what it leads to */
    expect_files("/var/alias/empty", "/var/alias/empty r 0644 0:0 "); /* a parent is the guest's to resolve */
    expect_files("/etc/ssh/key /etc/ssh", "/etc/ssh d 0755 0:0 \n"
                                          "/etc/ssh/key r 0600 0:0 " SECRET); /* once */
}

static void owners_are_numbers(void **state)
{
    shell("chown 33:4 \"$1/var/shop/empty\" && chmod 4710 \"$1/var/shop/empty\"");
    expect_files("/var/shop/empty", "/var/shop/empty r 4710 33:4 ");
}

static void the_content_is_in_no_command(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) files = read_paths("/etc/ssh/key", &error);
    g_autofree char *base64 = g_base64_encode((const guchar *)SECRET, strlen(SECRET));

    expect_no_error(error);
    assert_true(guest.agent->asked->len > 4);
    for (guint i = 0; i < guest.agent->asked->len; i++) {
        assert_null(strstr(guest.agent->asked->pdata[i], SECRET));
        assert_null(strstr(guest.agent->asked->pdata[i], base64));
    }
}

static void what_is_not_carried_over(void **state)
{
    shell("mkfifo \"$1/var/shop/fifo\"");
    expect_refused("/var/shop", VR_ERROR_AGENT, "/var/shop/fifo' is a FIFO, a socket or a device");
    shell("cd \"$1/var/shop\" && rm fifo && touch 'line\nbreak'");
    expect_refused("/var/shop", VR_ERROR_AGENT, "line break in its name");
    shell("cd \"$1/var/shop\" && rm line* && touch \"$(printf 'bell\\007')\"");
    expect_refused("/var/shop", VR_ERROR_AGENT, "bell?' is no entry");
    expect_refused("/var/../etc/ssh", VR_ERROR_INVALID, "no absolute path");
}

static void bounds(void **state)
{
    shell("cd \"$1/var/shop\" && mkdir many && cd many && seq 255 | xargs touch");
    expect_files("/var/shop/none", "");
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) files = read_paths("/var/shop/many", &error);
    expect_no_error(error);
    assert_int_equal(files->len, VR_GUEST_FILES_MAX);
    shell("touch \"$1/var/shop/many/more\"");
    expect_refused("/var/shop/many", VR_ERROR_AGENT, "more than 256");
    shell("cd \"$1/var/shop/many\" && seq 9000 | xargs touch");
    expect_refused("/var/shop/many", VR_ERROR_AGENT, "more than 256");
    shell("rm -r \"$1/var/shop/many\" && truncate -s 16M \"$1/var/shop/empty\"");
    expect_refused("/var/shop", VR_ERROR_AGENT, "larger than 16 MiB together");
    g_autoptr(GPtrArray) large = read_paths("/var/shop/empty", &error);
    expect_no_error(error);
    assert_int_equal(g_bytes_get_size(((VrGuestFile *)large->pdata[0])->data), 16 << 20);
}

static void append(const char *top)
{
    shell("printf x >> \"$1/var/shop/empty\"");
}

/* A user of the guest who owns the directory would have the agent read what only root may. */
static void exchange(const char *top)
{
    shell("cd \"$1/var/shop\" && rm empty && ln -s ../../etc/ssh/key empty");
}

static void vanish(const char *top)
{
    shell("rm -f \"$1/var/shop/empty\"");
}

static void what_changes_meanwhile(void **state)
{
    guest.between = append;
    guest.changes = 2;
    expect_files("/var/shop/empty", "/var/shop/empty r 0644 0:0 xx");
    guest.changes = 3;
    expect_refused("/var/shop/empty", VR_ERROR_CONFLICT, "change while they are read");
    guest.between = exchange;
    guest.changes = 1;
    expect_files("/var/shop/empty", "/var/shop/empty l 0000 0:0 ../../etc/ssh/key");
    guest.between = vanish;
    guest.changes = 1;
    expect_files("/var/shop/empty", "");
}

/* Who owns a directory above may put another one into its place and take it away again: the file itself is as it was. */
static void exchange_above(const char *top)
{
    shell("cd \"$1/var\" && mv shop/deep shop/away && mv shop/away shop/deep");
}

static void a_directory_above_that_is_exchanged(void **state)
{
    guest.between = exchange_above;
    guest.changes = 1;
    expect_files("/var/shop/deep/large", "/var/shop/deep/large r 0644 0:0 200000");
    assert_int_equal(guest.lists, 2); /* root's own doing */
    shell("chown 33 \"$1/var/shop\"");
    guest.changes = 3;
    expect_refused("/var/shop/deep/large", VR_ERROR_CONFLICT, "change while they are read");
}

static void a_name_like_a_mark(void **state)
{
    shell(": > \"$1/var/shop/deep/x!name\"; rm \"$1/var/shop/deep/large\"");
    expect_files("/var/shop/deep", "/var/shop/deep d 0755 0:0 \n/var/shop/deep/x!name r 0644 0:0 ");
}

static void hostile_lists(void **state)
{
    static const struct {
        const char *list, *why;
    } lists[] = {
        {"8180 0 0 5 1 d t z d t z /etc/shadow\n.\n",
         "'8180 0 0 5 1 d t z d t z /etc/shadow' is no entry, was not asked for"},
        {"8180 0 0 5 1 d t z d t z %s/var/../etc/shadow\n.\n", "is no entry"},
        {"8180 0 0 5 1 d t z d t z %s/var//shop\n.\n", "is no entry"},
        {"8180 0 0 5 1 d t z d t z %s/variant\n.\n", "is no entry"},
        {"8180 0 0 -5 1 d t z d t z %s/var/x\n.\n", "is no entry"},
        {"8180 0 0 99999999999999999999 1 d t z d t z %s/var/x\n.\n", "is no entry"},
        {"81800 0 0 5 1 d t z d t z %s/var/x\n.\n", "is no entry"},
        {"8180 0 0 5 1 d t z d t z %s/var/\xff\n.\n", "is no entry"},
        {"8180 0 0 5 1\n.\n", "is no entry"},
        {"8180 0 0 5 1 d t z d t z %s/var/x", "their list has no end"},
        {"", "their list has no end"},
        {"8180 0 0 9223372036854775807 1 d t z d t z %s/var/x\n8180 0 0 9223372036854775807 1 d t z d t z "
         "%s/var/y\n.\n",
         "larger than"},
        {"21b6 0 0 0 1 d t z d t z %s/var/null\n.\n", "a FIFO, a socket or a device"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(lists); i++) {
        g_auto(GStrv) parts = g_strsplit(lists[i].list, "%s", -1);
        g_autofree char *list = g_strjoinv(guest.top, parts);
        guest.listed = list;
        expect_refused("/var", VR_ERROR_AGENT, lists[i].why);
    }
    guest.listed = NULL;
}

static void a_guest_without_the_tools(void **state)
{
    g_autofree char *empty = g_build_filename(guest.top, "var", NULL);

    g_setenv("PATH", empty, TRUE);
    expect_refused("/etc/ssh", VR_ERROR_AGENT, "lacks find, stat, readlink or head");
    g_setenv("PATH", guest.path, TRUE);
    guest.agent->off = TRUE;
    expect_refused("/etc/ssh", VR_ERROR_AGENT, "nobody answers");
}

static void it_is_called_off(void **state)
{
    const char *const paths[] = {guest.top, NULL};
    g_autoptr(GError) error = NULL;
    GPtrArray *files = NULL;
    gint aborted = 1;

    assert_false(
        vr_agent_read_files(&guest.agent->hv, UUID, paths, vr_clock_now_ms() + 60000, &aborted, &files, &error));
    expect_error(&error, VR_ERROR_CANCELLED, "was ended");
    assert_false(vr_agent_read_files(&guest.agent->hv, UUID, paths, vr_clock_now_ms(), NULL, &files, &error));
    expect_error(&error, VR_ERROR_TIMEOUT, "/bin/sh still runs");
    assert_null(files);
}

/* Of a guest whose tools are busybox's, as of many small ones. */
static void with_busybox(void **state)
{
    g_autofree char *busybox = g_find_program_in_path("busybox");
    g_autofree char *bin = NULL;

    if (!busybox)
        skip();
    bin = g_build_filename(guest.top, "bin", NULL);
    shell(
        "mkdir \"$1/bin\" && for t in find stat readlink head; do ln -s \"$(command -v busybox)\" \"$1/bin/$t\"; done");
    g_setenv("PATH", bin, TRUE);
    files_links_and_directories(state);
    g_setenv("PATH", guest.path, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_links_and_directories, set_up, tear_down),
        cmocka_unit_test_setup_teardown(owners_are_numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_content_is_in_no_command, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_carried_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_changes_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_above_that_is_exchanged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_like_a_mark, set_up, tear_down),
        cmocka_unit_test_setup_teardown(hostile_lists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_guest_without_the_tools, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_is_called_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(with_busybox, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
