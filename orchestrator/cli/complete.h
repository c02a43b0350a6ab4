/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Completion for shells: a word of a command line is found by the command's synopsis and by what its options take, so that a new command
 * needs nothing here. It reads the store and nothing else, waits for nobody, and says nothing but what fits.
 */
#pragma once

#include "orchestrator/cli/cli.h"

/* Lines that stand for names of files. Nothing else that is printed begins with a colon. */
#define VR_COMPLETE_FILE ":file"
#define VR_COMPLETE_DIRECTORY ":directory"

typedef struct {
    const VrCli *cli;            /* of `complete` itself: its root is that of the words */
    const VrCliCommand *command; /* NULL: it is what is typed, or there is no such one */
    const char *uri, *root;      /* of the words; NULL */
    const char *current;         /* that is typed; of "--name=value" the value */
    const char *prefix;          /* "--name=", else "" */
    const char *const *words;    /* those before it */
    guint n_words;
    GPtrArray *arguments;    /* const char *: those that are no options, after the command */
    VrCliOptionText option;  /* whose value is typed; name NULL: none */
    gboolean named;          /* a command, or "help", was there */
    gboolean only_arguments; /* after "--" */
} VrCompletion;

/* Before anything that may wait: sets the limit, and takes the libvirt and the store that the words name as those of the command itself. So it goes
 * to a daemon only where that one serves them, and there it reads no other store than the daemon's. */
void vr_complete_begin(VrCliOptions *options, char **words);

/* It is `complete`, and this process can read the store: then no daemon is asked. */
gboolean vr_complete_is_ours(const VrCli *cli);

/* Adds what `kind` stands for ("SET", "VERSION", "FILE", ...), whether or not it fits what is typed; a kind that is not known has
 * nothing. found: char *, owned. */
void vr_complete_values(const VrCompletion *completion, const char *kind, GPtrArray *found);
