/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* C3: what extensions are made of is read, or refused by its name, before a guest is touched; what became of them is kept. */
#include "orchestrator/extension_files.h"

#include "base/error.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char *top;

static char *path_of(const char *name)
{
    return g_build_filename(top, name, NULL);
}

static void write_file(const char *name, const char *text, gssize length, mode_t mode)
{
    g_autofree char *path = path_of(name);

    assert_true(g_file_set_contents(path, text, length, NULL));
    assert_int_equal(chmod(path, mode), 0);
}

/* @: the directory */
static VrModel *model_of(const char *item)
{
    g_auto(GStrv) parts = g_strsplit(item, "@", -1);
    g_autofree char *here = g_strjoinv(top, parts);
    g_autofree char *text =
        g_strdup_printf("name: lab\nimageReference: {name: i}\nextensionProfile: {extensions: [%s]}\n"
                        "instances: [{domain: x}]\n",
                        here);
    g_autoptr(GError) error = NULL;
    VrModel *model = vr_model_parse(text, strlen(text), "lab.yaml", &error);

    assert_string_equal(error ? error->message : "", "");
    return model;
}

static void refused(const char *item, const char *message)
{
    g_autoptr(VrModel) model = model_of(item);
    g_autoptr(GError) error = NULL;
    g_autoptr(VrExtensions) extensions = vr_extensions_load(model, &error);

    if (extensions)
        fail_msg("%s was taken", item);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_REFUSED));
    if (!g_str_has_prefix(error->message, "extension a: ") || !strstr(error->message, message))
        fail_msg("\"%s\" instead of \"%s\"", error->message, message);
}

#define SCRIPT(name) "{name: a, script: @/" name "}"

static void test_refused(void **state)
{
    g_autofree char *fifo = path_of("fifo"), *loop = path_of("loop"), *directory = path_of("directory");
    g_autofree char *large = g_strnfill(1024 * 1024 + 1, 'x');

    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(symlink(loop, loop), 0);
    assert_int_equal(g_mkdir(directory, 0700), 0);
    write_file("large", large, -1, 0600);
    write_file("empty", "", -1, 0600);
    write_file("program", "\177ELF\0\0\1", 7, 0700);
    write_file("windows", "#!/bin/sh\r\necho\r\n", -1, 0700);
    write_file("relative", "#!sh\n", -1, 0700);
    write_file("bytes", "#!/bin/\377\n", -1, 0700);
    write_file("good", "#!/bin/sh\n", -1, 0600);
    write_file("open", "secret", -1, 0644);
    refused(SCRIPT("missing"), "/missing cannot be read: No such file");
    refused(SCRIPT("fifo"), "/fifo is no regular file");
    refused(SCRIPT("directory"), "/directory is no regular file");
    refused(SCRIPT("loop"), "/loop cannot be read: Too many levels");
    refused("{name: a, script: /dev/zero}", "/dev/zero is no regular file");
    refused(SCRIPT("large"), "/large has 1048577 bytes, at most 262144");
    refused(SCRIPT("empty"), "/empty is empty");
    refused(SCRIPT("program"), "/program is no script: it has a zero byte; a program goes into files and command");
    refused(SCRIPT("windows"), "/windows has lines that end with a carriage return");
    refused(SCRIPT("relative"), "/relative: its first line names no interpreter by an absolute path");
    refused(SCRIPT("bytes"), "/bytes: its first line names no interpreter");
    refused("{name: a, script: @/good, files: [{source: @/good, path: /x}, {source: @/large, path: /x}]}",
            "/large has 1048577 bytes, at most 1048576");
    refused("{name: a, script: @/good, files: [{source: @/nothing, path: /x}]}", "/nothing cannot be read");
    refused("{name: a, script: @/good, protectedSettings: {file: @/nothing}}", "/nothing cannot be read");
    refused("{name: a, script: @/good, protectedSettings: {file: @/open}}",
            "/open is a secret that every user of this host may use (mode 0644): run 'chmod 600' on it");
}

static void test_taken(void **state)
{
    static const struct {
        const char *text, *interpreter, *argument;
    } rows[] = {
        {"echo\n", "/bin/sh", NULL},
        {"#!/bin/bash", "/bin/bash", NULL},
        {"#! /usr/bin/env  python3 -u \necho\n", "/usr/bin/env", "python3 -u"},
        {"#!/bin/sh\t-e\n", "/bin/sh", "-e"},
    };

    write_file("secret", "s\0t", 3, 0640);
    write_file("other", "a file", -1, 0644);
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(VrModel) model = model_of("{name: a, script: @/script, protectedSettings: {file: @/secret}, files: "
                                            "[{source: @/other, path: /x}]}");
        g_autoptr(VrExtensions) extensions = NULL;
        const VrExtensionPayload *payload;

        write_file("script", rows[i].text, -1, 0600);
        extensions = vr_extensions_load(model, NULL);
        assert_non_null(extensions);
        payload = &extensions->all[0];
        assert_string_equal(payload->interpreter, rows[i].interpreter);
        assert_int_equal(g_strcmp0(payload->interpreter_argument, rows[i].argument), 0);
        assert_string_equal(payload->script.data, rows[i].text);
        assert_int_equal(payload->protected_settings.length, 3);
        assert_memory_equal(payload->protected_settings.data, "s\0t", 4);
        assert_string_equal(payload->files[0].data, "a file");
    }
    assert_int_equal(prctl(PR_GET_DUMPABLE), 0); /* SAFETY 29: none of it comes into a core */
}

static int make_top(void **state)
{
    top = g_dir_make_tmp("vr-files-XXXXXX", NULL);
    return top ? 0 : -1;
}

static int remove_top(void **state)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", top);

    g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL);
    g_free(top);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_refused, make_top, remove_top),
        cmocka_unit_test_setup_teardown(test_taken, make_top, remove_top),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
