/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/error_json.h"

#include "base/error.h"

static const char *const keys[VR_ERROR_PARTS_] = {
    [VR_ERROR_CAUSE] = "cause", [VR_ERROR_NOW] = "now", [VR_ERROR_NEXT] = "next"};

static void put(json_t *object, const char *key, const char *text)
{
    g_autofree char *shown = vr_printable(text, -1);

    json_object_set_new(object, key, json_string(shown));
}

json_t *vr_error_json(const GError *error)
{
    g_autofree char *what = vr_error_what(error);
    json_t *object = json_object();

    put(object, "code", vr_error_name(vr_error_code(error)));
    put(object, "message", error->message);
    put(object, "what", what);
    for (int part = 0; part < VR_ERROR_PARTS_; part++)
        if (vr_error_part(error, part))
            put(object, keys[part], vr_error_part(error, part));
    return json_pack("{s:o}", "error", object);
}

GError *vr_error_of_json(const json_t *document)
{
    const json_t *object = json_object_get(document, "error");
    const char *code = json_string_value(json_object_get(object, "code"));
    const char *message = json_string_value(json_object_get(object, "message"));
    const char *what = json_string_value(json_object_get(object, "what"));
    const char *parts[VR_ERROR_PARTS_];
    GError *error;

    if (!code || !message)
        return NULL;
    error = g_error_new_literal(VR_ERROR, vr_error_code_named(code), what ? what : message);
    for (int part = 0; part < VR_ERROR_PARTS_; part++)
        parts[part] = what ? json_string_value(json_object_get(object, keys[part])) : NULL;
    if (parts[VR_ERROR_CAUSE])
        vr_error_cause(&error, "%s", parts[VR_ERROR_CAUSE]);
    if (parts[VR_ERROR_NOW])
        vr_error_now(&error, "%s", parts[VR_ERROR_NOW]);
    if (parts[VR_ERROR_NEXT])
        vr_error_next(&error, "%s", parts[VR_ERROR_NEXT]);
    return error;
}
