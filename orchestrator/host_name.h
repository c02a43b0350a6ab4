/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* NULL, or what it must be: letters, digits and '-' in labels of at most 63 that '-' neither begins nor ends, with dots between them (RFC 1123, 2.1), in all
 * at most 64 characters (the kernel's HOST_NAME_MAX). */
const char *vr_host_name_check(const char *name);
