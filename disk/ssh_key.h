/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A public key as it stands in a line of authorized_keys: sshd(8), AUTHORIZED_KEYS FILE FORMAT. */
#pragma once

#include <glib.h>

/* NULL, or what a line must be: a type that OpenSSH has, and the key itself; no options before it. */
const char *vr_ssh_key_check(const char *line);
