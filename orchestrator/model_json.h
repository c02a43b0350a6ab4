/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The model of a set as JSON, for those who change or read it by a program. Pure: no I/O. */
#pragma once

#include <glib.h>
#include <jansson.h>

/* A model as set-dump prints it (YAML, so JSON too). What was written without quotes is a number, a boolean or null where it looks like one.
 * Errors as vr_yaml_parse(). */
json_t *vr_model_to_json(const char *text, gsize length, GError **error);
