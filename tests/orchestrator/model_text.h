/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Documents for the tests of the model. Where VR_MODEL_DOCUMENTS names a directory, each document that a test reads is left
 * there with what the parser said of it: tests/orchestrator/model_schema.py asks the schema the same.
 */
#pragma once

#include "orchestrator/model.h"

#include "base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static inline void keep_document(const char *text, const char *verdict)
{
    static guint number;
    const char *directory = g_getenv("VR_MODEL_DOCUMENTS");
    g_autofree char *name = NULL, *said = NULL;

    if (directory == NULL)
        return;
    name = g_strdup_printf("%s/%s-%04u.yaml", directory, program_invocation_short_name, number++);
    said = g_strconcat(name, ".verdict", NULL);
    assert_true(g_file_set_contents(name, text, -1, NULL));
    assert_true(g_file_set_contents(said, verdict, -1, NULL));
}

static inline VrModel *read_text(const char *text, GError **error)
{
    GError *why = NULL;
    VrModel *model = vr_model_parse(text, strlen(text), "lab.yaml", &why);

    keep_document(text, why != NULL ? why->message : "");
    if (why != NULL)
        g_propagate_error(error, why);
    return model;
}

static inline VrModel *parse(const char *text)
{
    GError *error = NULL;
    VrModel *model = read_text(text, &error);

    if (model == NULL)
        fail_msg("%s", error->message);
    assert_null(error);
    return model;
}

/* The text is refused, with a message that begins so. */
static inline void refused(const char *text, const char *message)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VrModel) model = read_text(text, &error);

    if (model != NULL)
        fail_msg("accepted: %s", text);
    assert_true(g_error_matches(error, VR_ERROR, VR_ERROR_USAGE));
    if (!g_str_has_prefix(error->message, message))
        fail_msg("\"%s\" instead of \"%s\"", error->message, message);
}

#define HEAD "name: lab\nimageReference: {name: debian-12}\n"
#define TAIL "instances: [{domain: lab-0}]\n"

typedef struct {
    const char *section; /* between HEAD and TAIL, from line 3 on */
    const char *message; /* after "lab.yaml:" */
} Refusal;

static inline void refused_each(const Refusal *rows, guint count)
{
    for (guint i = 0; i < count; i++) {
        g_autofree char *text = g_strconcat(HEAD, rows[i].section, "\n", TAIL, NULL);
        g_autofree char *message = g_strconcat("lab.yaml:", rows[i].message, NULL);

        refused(text, message);
    }
}

static inline VrModel *parse_with(const char *section)
{
    g_autofree char *text = g_strconcat(HEAD, section, "\n", TAIL, NULL);

    return parse(text);
}
