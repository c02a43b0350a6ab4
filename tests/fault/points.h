/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Mutating points of a process: each system call that changes a file or makes it durable, each BEGIN and COMMIT of SQLite,
 * each call that changes a libvirt domain. They are counted, and at the wanted one the process ends by SIGKILL before it does it.
 *
 * A library of its own that stands before the C library: linked into the sweeps, and with LD_PRELOAD in front of virt-reimage
 * itself, where VR_POINTS_AT=N says where and VR_POINTS_COUNT=FILE where to write how many there were at the end.
 * What comes through io_uring cannot be seen by it; the sweeps report those completions with points_here().
 */
#pragma once

#define POINTS_LABEL 160

/* What a process tells whoever shares this memory with it. */
typedef struct {
    unsigned count;           /* points so far */
    unsigned answer;          /* the caller's own */
    unsigned long long past;  /* a digest of the labels so far, in their order, without random names */
    char label[POINTS_LABEL]; /* where it was killed: "fsync state.db-wal" */
} PointsReport;

/* From now on this process counts, from 1; it is killed at point `at` (0: never). report outlives it. */
void points_arm(unsigned at, PointsReport *report);

/* Only points of this label ("after COMMIT") are counted, and at the wanted one the process stops itself (SIGSTOP) instead. After
 * points_arm(). */
void points_stop_at(const char *label);

/* Not counted between pause and resume; the scripted hypervisor's own files are not ours. */
void points_pause(void);
void points_resume(void);

/* A point of the caller's. */
void points_here(const char *what, const char *on);
