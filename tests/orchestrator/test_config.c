/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* K5: the configuration of a host: its defaults, each key, and what is refused by name. */
#include "base/error.h"
#include "orchestrator/config.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char *write_file(const char *text, int mode)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "virt-reimage-conf-XXXXXX", NULL);
    int fd = g_mkstemp(path);

    assert_true(fd >= 0);
    close(fd);
    assert_true(g_file_set_contents(path, text, -1, NULL));
    assert_int_equal(g_chmod(path, mode), 0);
    return g_steal_pointer(&path);
}

static VrConfig *load(const char *text, int mode, GError **error)
{
    g_autofree char *path = write_file(text, mode);
    VrConfig *config = vr_config_load(path, error);

    g_unlink(path);
    return config;
}

static void assert_refused(const char *text, int mode, int code, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrConfig) config = load(text, mode, &error);

    assert_null(config);
    assert_int_equal(error->code, code);
    if (!strstr(error->message, words))
        fail_msg("'%s' is not in: %s", words, error->message);
}

static void defaults(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrConfig) config = load("# nothing\n", 0644, &error);

    assert_null(error);
    assert_null(config->uri);
    assert_null(config->drop_directory);
    assert_null(config->webhook);
    assert_true(config->journal);
    assert_string_equal(config->hooks, "/etc/virt-reimage/hooks.d");
    assert_int_equal(config->max_commands, 16);
    assert_int_equal(config->interval_ms, 60000);
}

static void every_key(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrConfig) config =
        load("[host]\nuri=test:///default\nroot=/srv/r\n[daemon]\nmaxCommands=3\n[drop]\ndirectory=/srv/d\n"
             "[notices]\njournal=false\nhooks=\nwebhook=https://h/\nwebhookSecretFile=/s\n"
             "[metrics]\ntextfile=/t.prom\ninterval=5s\n",
             0600, &error);

    assert_null(error);
    assert_string_equal(config->uri, "test:///default");
    assert_string_equal(config->root, "/srv/r");
    assert_int_equal(config->max_commands, 3);
    assert_string_equal(config->drop_directory, "/srv/d");
    assert_false(config->journal);
    assert_null(config->hooks);
    assert_string_equal(config->webhook, "https://h/");
    assert_string_equal(config->webhook_secret_file, "/s");
    assert_string_equal(config->textfile, "/t.prom");
    assert_int_equal(config->interval_ms, 5000);
}

static void refused(void **state)
{
    assert_refused("[hots]\nuri=x\n", 0600, VR_ERROR_INVALID, "[hots]: there is no such group");
    assert_refused("[host]\nurl=x\n", 0600, VR_ERROR_INVALID, "[host] url: there is no such key");
    assert_refused("[daemon]\nmaxCommands=0\n", 0600, VR_ERROR_INVALID,
                   "[daemon] maxCommands: '0' is not a number from 1");
    assert_refused("[notices]\njournal=yes\n", 0600, VR_ERROR_INVALID, "'yes' is not true or false");
    assert_refused("[notices]\nwebhook=ftp://h/\n", 0600, VR_ERROR_INVALID, "https://");
    assert_refused("[metrics]\ninterval=-1\n", 0600, VR_ERROR_INVALID, "[metrics] interval");
    assert_refused("[metrics]\ntextfile=t.prom\n", 0600, VR_ERROR_INVALID, "an absolute path");
    assert_refused("nonsense\n", 0600, VR_ERROR_INVALID, "virt-reimage-conf-");
    assert_refused("[host]\n", 0602, VR_ERROR_REFUSED, "can be written to by others");
    assert_refused("[host]\nuri=\xff\n", 0600, VR_ERROR_INVALID, "[host] uri");
}

static void one_that_is_named_must_be_there(void **state)
{
    g_autoptr(GError) error = NULL;

    assert_null(vr_config_load("/nonexistent/virt-reimage.conf", &error));
    assert_int_equal(error->code, VR_ERROR_REFUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_key),
        cmocka_unit_test(refused),
        cmocka_unit_test(one_that_is_named_must_be_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
