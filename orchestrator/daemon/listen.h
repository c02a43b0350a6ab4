/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The two sockets that the daemon listens on: given by the service manager (socket activation, FileDescriptorName=rw and ro), or made by ourselves.
 *
 *   DIR/virt-reimage.sock      0660, group virt-reimage where there is one: may do everything
 *   DIR/virt-reimage-ro.sock   0666: may read what is no secret
 */
#pragma once

#include "base/lock.h"

#include <glib.h>
#include <sys/types.h>

#define VR_SOCKET_DIR "/run/virt-reimage"
#define VR_SOCKET_NAME "virt-reimage.sock"
#define VR_SOCKET_RO_NAME "virt-reimage-ro.sock"
#define VR_SOCKET_GROUP "virt-reimage"

typedef struct {
    int fd; /* listening, non-blocking, close-on-exec; -1: there is none */
    gboolean read_only;
    gid_t group; /* of the socket's file, whose members are let in; 0: none */
} VrListen;

typedef struct {
    VrListen sockets[2]; /* rw, ro */
    int dir_fd;          /* where we made them ourselves; -1: the manager did */
    VrLock *lock;        /* with dir_fd */
} VrListens;

/* dir NULL: takes what the service manager has given, else makes them in VR_SOCKET_DIR. With dir: makes them there. VR_ERROR_BUSY: another
 * virt-reimaged serves there. */
gboolean vr_listen_open(VrListens *listens, const char *dir, GError **error);

/* Removes the files of those that we have made. */
void vr_listen_clear(VrListens *listens);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrListens, vr_listen_clear)
