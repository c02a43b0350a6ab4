/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From a request to the words of a command. Pure: no I/O. */
#pragma once

#include "orchestrator/daemon/route_table.h"

#include <jansson.h>

#define VR_BODY_MAX_DEPTH 32
#define VR_WORD_MAX 4096   /* bytes of one text of a request; the kernel takes 128 KiB for a word */
#define VR_NAMES_MAX 10000 /* of one list; with the bytes of a body it is below what the kernel takes for all words */

/* A JSON object of VR_BODY_MAX_DEPTH levels at most, without duplicate keys; an empty body is an empty object. VR_ERROR_USAGE says where it
 * is wrong. */
json_t *vr_body_parse(const char *text, gsize length, GError **error);

/* query: name -> value, unescaped (strings; api-version is passed over); NULL: none. body: an object, or NULL. What comes twice, is
 * not known here or has a wrong type is VR_ERROR_USAGE with its name. The words begin with --json where the route's answer is a document, and values stand
 * behind "--" or "--option=", so that none is ever an option. Free with g_strfreev. */
char **vr_route_words(const VrRouteMatch *match, GHashTable *query, json_t *body, GError **error);
