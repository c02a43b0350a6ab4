/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Help in two levels: the commands by purpose, then one command with its options and an example. */
#include "orchestrator/cli/cli.h"

#include <stdio.h>

static const char *const groups[VR_GROUP_LAST_] = {
    [VR_GROUP_IMAGES] = "Images",         [VR_GROUP_SETS] = "Scale sets", [VR_GROUP_RUNS] = "Runs",
    [VR_GROUP_VIEWS] = "What is and was", [VR_GROUP_HOST] = "Host",
};

const char *vr_cli_group_name(VrCliGroup group)
{
    return groups[group];
}

void vr_cli_help(void)
{
    printf("usage: %s [-c URI] [-r DIR] [-q] [--json] COMMAND …\n\n"
           "Swaps the OS disk of libvirt guests and leaves everything else about them as it was.\n",
           VR_PROGRAM);
    for (guint group = 0; group < VR_GROUP_LAST_; group++) {
        printf("\n%s\n", groups[group]);
        for (const VrCliCommand *command = vr_cli_commands; command->name; command++)
            if (command->group == group)
                printf("  %-15s %s\n", command->name, command->summary);
    }
    printf("\nGlobal options, before or after the command\n"
           "  -c, --connect URI  libvirt to talk to\n"
           "  -r, --root DIR     where images and OS disks lie (/var/lib/virt-reimage)\n"
           "  -q, --quiet        no progress, notes and headings\n"
           "      --json         answer in JSON\n"
           "      --debug        log what is done to stderr\n"
           "  -V, --version      the version of this program (before the command)\n"
           "  -h, --help         this help; after a command, that of the command\n"
           "\nEvery command that changes something takes --dry-run. Exit status: 0 done, 1 failed, 2 usage,\n"
           "3 stopped by policy, 4 refused, 5 another run owns the set, 6 done but some were restored,\n"
           "7 a person must look.\n");
}

void vr_cli_help_of(const VrCliCommand *command)
{
    printf("usage: %s %s%s%s [OPTION…]\n\n%s.\n", VR_PROGRAM, command->name, *command->synopsis ? " " : "",
           command->synopsis, command->summary);
    if (*command->details)
        printf("%s\n", command->details);
    printf("\nOptions:\n");
    vr_cli_options_print(command->options);
    printf("\nExample:\n  %s %s\n", VR_PROGRAM, command->example);
}
