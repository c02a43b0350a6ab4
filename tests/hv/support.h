/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the unit tests of hv share: fixtures, expected errors, a clock that tests move. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "hv/hv.h"

#include <string.h>

#define UUID "5b2a8a08-26a5-4fd8-9a6e-0d7a8f0c1b11"

/* The text of tests/hv/xml/NAME. Free with g_free. */
static inline char *fixture(const char *name)
{
    const char *root = g_getenv("VR_SOURCE_DIR");
    g_autofree char *path = g_build_filename(root != NULL ? root : ".", "tests", "hv", "xml", name, NULL);
    char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        fail_msg("cannot read %s (VR_SOURCE_DIR is the root of the source)", path);
    return text;
}

/* The text with the first `from` replaced by `to`; from must be in it. Free with g_free. */
static inline char *replaced(const char *text, const char *from, const char *to)
{
    g_auto(GStrv) parts = g_strsplit(text, from, 2);

    if (g_strv_length(parts) != 2)
        fail_msg("\"%s\" is not in the text", from);
    return g_strconcat(parts[0], to, parts[1], NULL);
}

/* The error has this code and its message holds the text; clears it for the next use. */
static inline void expect_error(GError **error, int code, const char *text)
{
    if (*error == NULL)
        fail_msg("no error, \"%s\" was expected", text);
    if ((*error)->domain != VR_ERROR || (*error)->code != code || strstr((*error)->message, text) == NULL)
        fail_msg("%s (%s) where %s with \"%s\" was expected", (*error)->message, vr_error_name((*error)->code),
                 vr_error_name(code), text);
    g_clear_error(error);
}

static inline void expect_no_error(const GError *error)
{
    if (error != NULL)
        fail_msg("unexpected: %s", error->message);
}

#ifdef __SANITIZE_THREAD__
/* Neither library is instrumented, and GLib locks by futex: the sanitizer does not see right what they do inside and
 * between each other. */
const char *__tsan_default_suppressions(void);
__attribute__((weak)) const char *__tsan_default_suppressions(void) /* in each file of a test */
{
    return "called_from_lib:libglib-2.0.so\ncalled_from_lib:libvirt.so\n";
}
#endif

/* A clock that only sleeping and waiting move, so that no test waits for real. */
static gint64 fake_now_ms;

static inline gint64 fake_now(void *data)
{
    return fake_now_ms;
}

static inline void fake_sleep_until(gint64 deadline_ms, void *data)
{
    fake_now_ms = MAX(fake_now_ms, deadline_ms);
}

static inline gint64 fake_wall(void *data)
{
    return fake_now_ms * 1000;
}

static inline int use_fake_clock(void **state)
{
    static const VrClockSource source = {fake_now, fake_wall, fake_sleep_until, NULL};

    fake_now_ms = 1000;
    vr_clock_set_source(&source);
    return 0;
}

static inline int use_real_clock(void **state)
{
    vr_clock_set_source(NULL);
    return 0;
}
