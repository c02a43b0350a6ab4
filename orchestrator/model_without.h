/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A model's text without one of its instances, all else as a person wrote it. Pure. */
#pragma once

#include <glib.h>

/* index: in the order in which the model lists them; it is not the only one. Proven: the two models differ in that instance and in nothing else,
 * else VR_ERROR_REFUSED. Free with g_free. */
char *vr_model_text_without(const char *text, guint index, GError **error);
