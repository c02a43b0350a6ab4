/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Until when credentials are good, as they say themselves: the exp claim of a JSON Web Token (RFC 7519) and the se parameter of a shared access
 * signature (Azure's SAS, of storage and of the service bus). Pure. Nothing is proven: who signed it is not looked at, and a server
 * may refuse it earlier.
 */
#pragma once

#include <glib.h>

#define VR_TOKEN_MAX (64 * 1024) /* bytes */

/* A time as a model or a SAS has it, with its zone: "2026-11-22T10:00:00Z", for a SAS also "2026-11-22", "2026-11-22T10:00Z" and seconds since
 * the epoch. Wall clock. FALSE: it is none. */
gboolean vr_expiry_parse_time(const char *text, gint64 *until_us);
gboolean vr_expiry_parse_sas_time(const char *text, gint64 *until_us);

/* Of a query (what follows '?'), or of any text that has parameters so: its se. FALSE: it has none that can be read. */
gboolean vr_expiry_of_query(const char *query, gint64 *until_us);

/* Of a token, alone or behind "Bearer " or "Authorization: Bearer " or what else; of several the one that ends first. FALSE: no word says it. */
gboolean vr_expiry_of_token(const char *text, gint64 *until_us);
