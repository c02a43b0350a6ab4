/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of commands: what there is, what each takes, and its words for --help. */
#include "orchestrator/cli/cli.h"

#include "base/near.h"

#define MANY G_MAXUINT

#define RUN_STATUSES                                                                                                   \
    "Exit status: 0 done; 3 stopped by the policy of the set; 4 refused; 5 another run owns the set; 6 done, but\n"    \
    "some instances failed and were restored; 7 an instance is UNKNOWN and a person must look; 1 failed, or\n"         \
    "ended by Ctrl-C. Ctrl-C once ends the run when the batch in flight is done; a second one puts its guests\n"       \
    "back now."

#define DETACH_TEXT                                                                                                    \
    "On a terminal the run is shown as it goes; without one, or with --plain, it is a line an event with its time.\n"  \
    "--detach returns when the run has begun, and the run goes on by itself: 'status' shows it, 'pause', 'cancel' "    \
    "and\n"                                                                                                            \
    "the others reach it, ROOT/run/SET/log has its words. It outlives a crash of its process and of the host: "        \
    "'resume'\n"                                                                                                       \
    "goes on with it.\n"                                                                                               \
    "\n"

#define CONTROL_TEXT                                                                                                   \
    "Reaches a run in another terminal as well as one that was detached. Exit status 4: no run is open, or it does "   \
    "not\n"                                                                                                            \
    "stand where this fits; the error says what it waits for."

#define IGNORE_TEXT                                                                                                    \
    "--ignore lets a finding that forbids a swap pass, where its words offer that; each\n"                             \
    "that was passed is in the audit. What protects data is never passed."

const VrCliCommand vr_cli_commands[] = {
    {"image-check", VR_GROUP_IMAGES, "FILE", "Accept or refuse an image file, with the reason",
     "Reads the file and nothing else; changes nothing. Exit status 4: refused.", "image-check debian.qcow2", FALSE,
     VR_OPT_FORMAT | VR_OPT_JSON, 1, 1, vr_cmd_image_check},
    {"image-publish", VR_GROUP_IMAGES, "NAME VERSION FILE|-", "Check, copy and verify an image version, then show it",
     "A version is 1 to 4 numbers with dots and never changes again. The same bytes again are no error; other\n"
     "bytes under a version that exists are refused (exit status 4), and so is a file that a running guest\n"
     "writes to. Ctrl-C leaves nothing behind.\n"
     "\n"
     "FILE - is standard input, with --format. Files that are called .xz, .gz or .zst are inflated. Digest and\n"
     "signature are of the bytes as they are given, so of the compressed ones, and are checked before anything can\n"
     "be seen. What comes out may not be larger than the free space, or than --max-size, which may be more.\n"
     "\n"
     "What is stored is one file that stands alone: qcow2 without compressed clusters, or with --as raw a sparse raw\n"
     "one. What is compressed, or raw and not stored as raw, is converted, which takes room for a copy of the source\n"
     "and for the result.\n"
     "\n"
     "An image on a backing file is made one with --flatten: once for each file below it, in that order, each by the\n"
     "name that the file above it has for it. Its digest is of the list of the digests of its files, and so no "
     "file's;\n"
     "--digest-file has a line for each of them. A chain cannot be signed: sign the flattened image.\n"
     "\n"
     "--digest-file takes the line of FILE in a file that sha256sum wrote. --signature takes what 'minisign -S' wrote\n"
     "(not PGP); the key must be one of the *.pub files in /etc/virt-reimage/keys.d, or in --keys DIR, and the\n"
     "directory and its files must belong to root or to you and be writable by nobody else. A file with the name\n"
     "REQUIRED in that directory refuses every version that is not signed.",
     "image-publish debian-12 12.20261101.0 debian.qcow2 --digest sha256:9f86…", TRUE,
     VR_OPT_FORMAT | VR_OPT_DIGEST | VR_OPT_SIGNATURE | VR_OPT_IMPORT | VR_OPT_IDENTITY | VR_OPT_DRY_RUN, 3, 3,
     vr_cmd_image_publish},
    {"image-list", VR_GROUP_IMAGES, "[NAME]", "List images and their versions, with who uses them",
     "Newest first within a name. SIZE is what a guest sees, IN FILE the length of the file, ON DISK what it takes.\n"
     "ELIGIBLE says why latest and runs do not take a version: excluded, or damaged as far as can be seen without\n"
     "reading all of it (image-verify does).\n"
     "\n"
     "--publisher, --offer and --sku name an image as well, in the place of NAME.",
     "image-list debian-12", FALSE, VR_OPT_IDENTITY | VR_OPT_JSON, 0, 1, vr_cmd_image_list},
    {"image-info", VR_GROUP_IMAGES, "NAME [VERSION]", "Show all about one version (default: latest)",
     "latest is the highest version that is not excluded. What it boots by, its architecture and the UEFI loaders\n"
     "that firmware finds by itself are as they were read when it was published; 'not known' is what could not be.",
     "image-info debian-12 12.20261101.0", FALSE, VR_OPT_JSON, 1, 2, vr_cmd_image_info},
    {"image-exclude", VR_GROUP_IMAGES, "NAME VERSION", "Take a version out of latest and of every run",
     "Guests that run it go on. A run to it stops at its batch border.",
     "image-exclude debian-12 12.20261101.0 --reason 'no network'", TRUE, VR_OPT_REASON | VR_OPT_DRY_RUN, 2, 2,
     vr_cmd_image_exclude},
    {"image-include", VR_GROUP_IMAGES, "NAME VERSION", "Undo image-exclude", "",
     "image-include debian-12 12.20261101.0", TRUE, VR_OPT_DRY_RUN, 2, 2, vr_cmd_image_include},
    {"image-verify", VR_GROUP_IMAGES, "NAME [VERSION]", "Read versions again and say what is damaged (default: all)",
     "Looks at the record, owners and modes, and at every byte of the disk. Changes nothing. Exit status 4: damaged.",
     "image-verify debian-12", FALSE, VR_OPT_JSON, 1, 2, vr_cmd_image_verify},
    {"image-delete", VR_GROUP_IMAGES, "NAME VERSION", "Delete a version that nobody uses",
     "Refused (exit status 4) while an OS disk, a domain, its snapshots or saved state, a kept generation, a run or\n"
     "the pin of a model refers to it; the error names them. So it is while an OS disk in the store cannot be read "
     "and\n"
     "the journal does not know it: it may refer to any version.",
     "image-delete debian-12 12.20260901.0", TRUE, VR_OPT_DRY_RUN, 2, 2, vr_cmd_image_delete},
    {"image-prune", VR_GROUP_IMAGES, "NAME", "Delete old versions that nobody uses, but for the newest N",
     "The newest N versions that are eligible stay, and all that are newer than those; so do the newest of all and\n"
     "whatever is in use as image-delete means it. Says of each version what becomes of it.",
     "image-prune debian-12 --keep 3 --dry-run", TRUE, VR_OPT_KEEP | VR_OPT_DRY_RUN | VR_OPT_JSON, 1, 1,
     vr_cmd_image_prune},

    {"set-define", VR_GROUP_SETS, "FILE|-", "Define a scale set from its model, or define it anew",
     "The model is YAML or JSON. Each instance is a libvirt domain, bound by its UUID. Guests are not touched.\n"
     "Of a set that exists, each change is listed with what it means: live (it counts from now), at next reimage (it\n"
     "reaches a guest with its next new OS disk), or refused, and then nothing is changed (exit status 4). While a\n"
     "run of the set is active its model cannot be changed (exit status 5).\n"
     "\n"
     "Which instances are behind the model then is said, and with upgradePolicy.mode Rolling or Automatic they are\n"
     "brought to it at once, in a run as of 'apply --all'; the exit status is that of the run.",
     "set-define shop.yaml --dry-run", TRUE, VR_OPT_NO_APPLY | VR_OPT_REASON | VR_OPT_DRY_RUN | VR_OPT_JSON, 1, 1,
     vr_cmd_set_define},
    {"set-edit", VR_GROUP_SETS, "SET", "Edit the model of a set in $VISUAL or $EDITOR, and define it anew",
     "As set-define with what the editor leaves. What is refused, or cannot be read, stays in its file.",
     "set-edit shop", TRUE, VR_OPT_NO_APPLY | VR_OPT_REASON | VR_OPT_DRY_RUN | VR_OPT_JSON, 1, 1, vr_cmd_set_edit},
    {"set-list", VR_GROUP_SETS, "", "List the scale sets", "", "set-list", FALSE, VR_OPT_JSON, 0, 0, vr_cmd_set_list},
    {"set-info", VR_GROUP_SETS, "SET", "Show image, policy and instances of a set", "", "set-info shop", FALSE,
     VR_OPT_JSON, 1, 1, vr_cmd_set_info},
    {"set-dump", VR_GROUP_SETS, "SET", "Print the model as it was given", "", "set-dump shop > shop.yaml", FALSE,
     VR_OPT_JSON, 1, 1, vr_cmd_set_dump},
    {"set-auto", VR_GROUP_SETS, "SET on|off|model", "Say whether a set is upgraded by itself",
     "Beats enableAutomaticOSUpgrade in the model, also when the set is defined anew; 'model' lets the model say it\n"
     "again. A run in flight goes on. Said once more, it lets an upgrade begin by itself again that was begun for the\n"
     "newest version and has ended; not one to a version that failed for the set: for that, 'retry'.\n"
     "\n"
     "on needs a healthProfile with an applicationHealth in the model (exit status 4).",
     "set-auto shop off --reason 'sale until Monday'", TRUE, VR_OPT_REASON | VR_OPT_DRY_RUN, 2, 2, vr_cmd_set_auto},
    {"set-undefine", VR_GROUP_SETS, "SET", "Forget a set; guests and disks stay as they are",
     "Says of each guest which disk it goes on with, which image version that needs, which older disks stay and where. "
     "For a\n"
     "disk that needs nothing here: 'release' the instance first.",
     "set-undefine shop", TRUE, VR_OPT_DRY_RUN | VR_OPT_JSON, 1, 1, vr_cmd_set_undefine},
    {"adopt", VR_GROUP_SETS, "SET INSTANCE", "Say which version of the set's image a guest runs already",
     "Needs --version. For guests that were not made by a swap; the guest is not touched.",
     "adopt shop web-0 --version 12.20261101.0", TRUE, VR_OPT_VERSION | VR_OPT_DRY_RUN, 2, 2, vr_cmd_adopt},
    {"protect", VR_GROUP_SETS, "SET INSTANCE…", "Keep instances out of what is done to the set",
     "upgrade, and apply, reimage and rollback with --all, leave them alone; a command that names one moves it still.\n"
     "One that is down holds no place while it is protected: it stops no run, and keeps no batch small. Stays when "
     "the\n"
     "set is defined anew, and goes when the instance leaves it.",
     "protect shop web-3 --reason 'repair, ticket 4711'", TRUE, VR_OPT_REASON | VR_OPT_DRY_RUN, 2, MANY,
     vr_cmd_protect},
    {"unprotect", VR_GROUP_SETS, "SET INSTANCE…", "Undo protect",
     "What the model protects (protectionPolicy) is refused (exit status 4), and then nothing is changed: edit the\n"
     "model.",
     "unprotect shop web-3", TRUE, VR_OPT_DRY_RUN, 2, MANY, vr_cmd_unprotect},
    {"release", VR_GROUP_SETS, "SET INSTANCE", "Let an instance leave with an OS disk that stands alone",
     "A guest that runs goes on running: QEMU takes the image version into its disk (a block pull), under the name "
     "that it\n"
     "has. Of one that is off, a new file is made, and it stays off. Then libvirt's configuration names that file\n"
     "alone and has no metadata of ours, and the instance is cut out of the model ('set-dump' shows it). From there "
     "on\n"
     "the disk is the guest's own: nothing here deletes it, and no version is in use by it.\n"
     "\n"
     "What is kept of older disks stays where it is until 'gc --left'. Killed in the middle, the guest is on a whole "
     "disk\n"
     "and in its set, and the same command again goes on: a block pull goes on by itself.\n"
     "\n"
     "Exit status 4: a finding of the preflight forbids it, as it would a swap. " IGNORE_TEXT,
     "release shop web-3", TRUE, VR_OPT_IGNORE | VR_OPT_DRY_RUN | VR_OPT_JSON, 2, 2, vr_cmd_release},

    {"plan", VR_GROUP_RUNS, "SET", "Show what upgrade would do: batches, reasons, findings, space, time, disks",
     "Changes nothing. Exit status 3: the run would stop by its policy; 4: an instance that would be moved has a\n"
     "finding that forbids it, or there is no room for the new disks.\n"
     "\n"
     "In this order: who goes in which batch and why, and who is left alone; findings and warnings; space, and what\n"
     "becomes of the disks; how long guests are down by what earlier runs of the set took, where there was one; with\n"
     "--print-diff how the XML of each domain would change, made by what will make it, without passwords; and the\n"
     "command that does it. The UUID of a swap is not known before.\n"
     "\n"
     "A blocker is what a run would be refused for; a warning stops nothing. A finding has its name in "
     "brackets.\n" IGNORE_TEXT,
     "plan shop --version 12.20261101.0", FALSE,
     VR_OPT_VERSION | VR_OPT_ROLE | VR_OPT_IGNORE | VR_OPT_PRINT_DIFF | VR_OPT_JSON, 1, 1, vr_cmd_plan},
    {"upgrade", VR_GROUP_RUNS, "SET", "Move a set to a new image version, batch by batch",
     "Without --version: the version of the model, or the latest that is not excluded. Instances that run it are left\n"
     "alone, those that the model pins to another one, and those that are protected. A version that failed on this\n"
     "set before is tried again only when --version names it, or by 'retry'.\n"
     "\n"
     "--canary moves the instances that it names, and then waits for 'promote'; --walk waits before each upgrade "
     "domain\n"
     "for 'walk SET UD'. A run of the set that is in flight is refused; with --replace it is ended at its batch "
     "border,\n"
     "and the upgrade starts from the state that it has left.\n"
     "\n"
     "--automatic is what virt-reimaged and timers say: to the newest version, and refused with the reason unless it\n"
     "is due ('triggers'). It never goes to a lower version, never to one that failed for this set, leaves instances\n"
     "alone of which nobody knows what they run, and keeps to the maintenance window.\n"
     "\n" DETACH_TEXT RUN_STATUSES,
     "upgrade shop", TRUE,
     VR_OPT_VERSION | VR_OPT_ROLE | VR_OPT_ROLL | VR_OPT_AUTOMATIC | VR_OPT_DETACH | VR_OPT_PLAIN |
         VR_OPT_NO_AUTO_ROLLBACK | VR_OPT_IGNORE | VR_OPT_REASON | VR_OPT_DRY_RUN | VR_OPT_PRINT_DIFF | VR_OPT_JSON,
     1, 1, vr_cmd_upgrade},
    {"reimage", VR_GROUP_RUNS, "SET INSTANCE…|--all", "Give instances a fresh OS disk of the version that they run",
     "Each gets the version that it runs now, be it the newest or not; one of which that is not known, such as one\n"
     "that was added to the set, gets the set's current version ('status'), to which the last upgrade of all brought "
     "it.\n"
     "With --version: of that one; with --all then not those that the model pins to another one. One that is\n"
     "protected is only moved when it is named. Data disks are kept, and so are those of tempDisks in the model, but "
     "with\n"
     "--temp-disk: while the guest is off each becomes an empty file system of the same type, label and UUID. No "
     "rollback\n"
     "brings back what was on it.\n\n" RUN_STATUSES,
     "reimage shop web-0 web-1", TRUE,
     VR_OPT_TEMP_DISK | VR_OPT_VERSION | VR_OPT_ALL | VR_OPT_DETACH | VR_OPT_PLAIN | VR_OPT_NO_AUTO_ROLLBACK |
         VR_OPT_IGNORE | VR_OPT_REASON | VR_OPT_DRY_RUN | VR_OPT_PRINT_DIFF | VR_OPT_JSON,
     1, MANY, vr_cmd_reimage},
    {"apply", VR_GROUP_RUNS, "SET INSTANCE…|--all",
     "Bring instances to the model that was edited, on the version they run",
     "Those that are behind the model ('status' counts them) get a new OS disk of the version that they run now,\n"
     "batch by batch under the policy of the set; 'rollback' goes back. The others are left alone, and with --all "
     "those\n"
     "that are protected and those of which no version is known. For a new image version: "
     "'upgrade'.\n\n" RUN_STATUSES,
     "apply shop --all", TRUE,
     VR_OPT_ALL | VR_OPT_DETACH | VR_OPT_PLAIN | VR_OPT_NO_AUTO_ROLLBACK | VR_OPT_IGNORE | VR_OPT_REASON |
         VR_OPT_DRY_RUN | VR_OPT_PRINT_DIFF | VR_OPT_JSON,
     1, MANY, vr_cmd_apply},
    {"retry", VR_GROUP_RUNS, "SET", "Try again the instances that the last run left failed",
     "To the version, or the generations, that the run went to; the others are left alone. A version that is blocked "
     "since\n"
     "it failed on this set is free again when the retry comes good.\n\n" RUN_STATUSES,
     "retry shop", TRUE,
     VR_OPT_DETACH | VR_OPT_PLAIN | VR_OPT_NO_AUTO_ROLLBACK | VR_OPT_IGNORE | VR_OPT_REASON | VR_OPT_DRY_RUN |
         VR_OPT_PRINT_DIFF | VR_OPT_JSON,
     1, 1, vr_cmd_retry},
    {"rollback", VR_GROUP_RUNS, "SET INSTANCE…|--all", "Go back to kept OS disks",
     "For an instance: what it ran before its current generation, and again one further back; --to-generation goes to\n"
     "any kept one, forward too. With --all: every instance that the last run (or --run ID) moved goes back to what\n"
     "it had before that run, but for those that are protected. What the newer system did to data disks is not\n"
     "undone.\n"
     "\n"
     "With --all while a run is in flight, that one is ended now: guests that are on their way go back, then those "
     "that it\n"
     "had moved; what it had not touched is not touched.\n\n" RUN_STATUSES,
     "rollback shop --all", TRUE,
     VR_OPT_ALL | VR_OPT_TO_GENERATION | VR_OPT_RUN | VR_OPT_DETACH | VR_OPT_PLAIN | VR_OPT_NO_AUTO_ROLLBACK |
         VR_OPT_IGNORE | VR_OPT_REASON | VR_OPT_DRY_RUN | VR_OPT_PRINT_DIFF | VR_OPT_JSON,
     1, MANY, vr_cmd_rollback},
    {"pause", VR_GROUP_RUNS, "SET", "Hold the run of a set at its batch border", CONTROL_TEXT, "pause shop", TRUE,
     VR_OPT_DRY_RUN | VR_OPT_JSON, 1, 1, vr_cmd_pause},
    {"resume", VR_GROUP_RUNS, "SET", "Let a run go on that is paused, or whose process has ended", CONTROL_TEXT,
     "resume shop", TRUE, VR_OPT_DRY_RUN | VR_OPT_JSON, 1, 1, vr_cmd_resume},
    {"cancel", VR_GROUP_RUNS, "SET", "End the run of a set at its batch border",
     "With --now: the guests that are on their way go back to their old disks. What is done stays done; 'rollback SET "
     "--all'\n"
     "undoes that too.\n" CONTROL_TEXT,
     "cancel shop --now", TRUE, VR_OPT_NOW | VR_OPT_DRY_RUN | VR_OPT_JSON, 1, 1, vr_cmd_cancel},
    {"walk", VR_GROUP_RUNS, "SET UD", "Let a run that walks go on with one upgrade domain",
     "For a run that was begun with --walk. set-info shows the upgrade domain of each instance.\n" CONTROL_TEXT,
     "walk shop 2", TRUE, VR_OPT_DRY_RUN | VR_OPT_JSON, 2, 2, vr_cmd_walk},
    {"promote", VR_GROUP_RUNS, "SET", "Let a run go on after its canary, a checkpoint or its bake time", CONTROL_TEXT,
     "promote shop", TRUE, VR_OPT_DRY_RUN | VR_OPT_JSON, 1, 1, vr_cmd_promote},
    {"approve", VR_GROUP_RUNS, "SET", "Let a run begin whose model asks for an approval", CONTROL_TEXT, "approve shop",
     TRUE, VR_OPT_DRY_RUN | VR_OPT_JSON, 1, 1, vr_cmd_approve},
    {"recover", VR_GROUP_RUNS, "[SET…]", "Finish or undo what a crash left open (default: in all sets)",
     "Every command that changes a set does this first. It says of each open swap what it found and did; of an "
     "instance\n"
     "that is UNKNOWN, what to look at and what to type. With --dry-run it says so and changes nothing.\n"
     "\n"
     "recover SET --forget INSTANCE ends the open swap of an instance whose domain libvirt does not have any more, or\n"
     "that has its old disk while the files of the swap (gN.xml) are lost. Its generations and files stay. It is\n"
     "refused where a recovery can do something.\n"
     "\n"
     "recover --rebuild restores instances and their generations when state.db is lost, from the metadata of domains\n"
     "and the store: what runs, and what can be gone back to with --to-generation. It never changes what state.db "
     "knows. Sets\n"
     "must be defined again; runs, protections and excluded versions are not restored. To rebuild over an old copy\n"
     "of state.db, move that away first.\n"
     "\n"
     "Exit status 7: an instance is UNKNOWN or not restored and a person must look, or was started and the model that\n"
     "says how its health is judged cannot be read. (A dry run tells it, and ends with 0.)",
     "recover shop --dry-run", TRUE, VR_OPT_DRY_RUN | VR_OPT_RECOVER, 0, MANY, vr_cmd_recover},

    {"status", VR_GROUP_VIEWS, "SET", "Show versions, the last run, and each instance",
     "--watch shows the run in flight until it has ended, whoever began it, and of a set without one how the last one\n"
     "ended. Ctrl-C ends the view, and not the run. Without a terminal, or with --plain, it is a line a change.",
     "status shop --watch", FALSE, VR_OPT_WATCH | VR_OPT_PLAIN | VR_OPT_JSON, 1, 1, vr_cmd_status},
    {"triggers", VR_GROUP_VIEWS, "[SET]", "Show what begins by itself, when, and why not (default: all sets)",
     "off: the set is not upgraded by itself. nothing: its instances are on the newest version. blocked: a person "
     "must\n"
     "do something first, which the reason says. wait: it begins when the maintenance window opens. due: it begins "
     "now,\n"
     "where virt-reimaged runs.",
     "triggers shop", FALSE, VR_OPT_JSON, 0, 1, vr_cmd_triggers},
    {"instance-view", VR_GROUP_VIEWS, "SET INSTANCE", "Show all about one instance, with its last error",
     "What it said on its serial console at its last start by us is kept, if it has a console that can be read: "
     "Console names\n"
     "the file, and below it are the last lines where it did not become healthy.\n",
     "instance-view shop web-0", FALSE, VR_OPT_JSON, 2, 2, vr_cmd_instance_view},
    {"history", VR_GROUP_VIEWS, "SET", "List the runs of a set; with --run, the times of each instance",
     "What is kept is for retention in the model to say; by default the last 1,000 runs of two years. --azure gives "
     "the\n"
     "last five upgrades of the last two months in the shape of osUpgradeHistory,\n"
     "for tools that were made for it.\n"
     "\n"
     "--html writes one run as a page for a browser, which needs no network: its timeline, downtime, failures and the\n"
     "proof that data disks were not touched. It says what --json says.",
     "history shop --run 20261121-230232-1a2b", FALSE, VR_OPT_RUN | VR_OPT_HTML | VR_OPT_AZURE | VR_OPT_JSON, 1, 1,
     vr_cmd_history},
    {"generations", VR_GROUP_VIEWS, "SET INSTANCE", "List the OS disks of an instance that are kept", "",
     "generations shop web-0", FALSE, VR_OPT_JSON, 2, 2, vr_cmd_generations},
    {"notices", VR_GROUP_VIEWS, "[SET]", "List what was told to those outside about requests and runs, and what waits",
     "Three notices: a run was asked for (RequestSubmitted), it has begun or was refused (RequestResult), it has "
     "ended\n"
     "(CompletionResult). The configuration says where they go: the journal, programs in a directory, a URL.\n"
     "\n"
     "The command that writes one leaves a process that delivers it, and never waits for that. --deliver does the "
     "same\n"
     "by hand, of all sets: what is due goes out, what fails is tried again later (5 s, and up to 10 min, for 24 h).\n"
     "Where another process is at it, it does nothing. It says nothing and ends with 0, whoever could not be reached:\n"
     "without --deliver each notice has a line, and the reason why it waits.",
     "notices shop", FALSE, VR_OPT_DELIVER | VR_OPT_JSON, 0, 1, vr_cmd_notices},

    {"metrics", VR_GROUP_VIEWS, "", "Print the metrics of this host for Prometheus, as OpenMetrics text",
     "Sets, instances by version and state, runs, how long swaps took and guests were down, space: what the store "
     "says,\n"
     "without libvirt. Changes nothing. docs/metrics.md has each metric, with alert rules and a dashboard.\n"
     "\n"
     "--output puts it into FILE, whole or not at all, for the textfile collector of node_exporter; with --prometheus "
     "in\n"
     "the older text format, which is what that one reads.",
     "metrics --prometheus --output /var/lib/prometheus/node-exporter/virt-reimage.prom", FALSE, VR_OPT_OUTPUT, 0, 0,
     vr_cmd_metrics},

    {"gc", VR_GROUP_HOST, "[SET]", "Delete the OS disks that retention does not keep (default: of all sets)",
     "The end of each run does this for its set. A disk that a domain, an overlay or a process uses stays, with the "
     "reason.\n"
     "Files in the directory of disks that were not made here are listed and left. Without SET, also what instances "
     "left\n"
     "that are in no set any more: by the default retention (2 disks, 14 days, never the one that was replaced last), "
     "or "
     "with\n"
     "--left all that nobody uses, at once.",
     "gc shop --dry-run", TRUE, VR_OPT_LEFT | VR_OPT_DRY_RUN | VR_OPT_JSON, 0, 1, vr_cmd_gc},
    {"doctor", VR_GROUP_HOST, "", "Say whether this host is fit: libvirt, KVM, tools, store, space",
     "One line a check: ok, warn or fail, with what to do. A warn may stay: something is slower, or cannot be had. "
     "Changes\n"
     "nothing. Exit status 1: a check failed.",
     "doctor", FALSE, VR_OPT_JSON, 0, 0, vr_cmd_doctor},

    {"complete", VR_GROUP_HIDDEN, "WORD…", "Print what the last word of a command line may be, for a shell",
     "One a line; ':file' and ':directory' stand for names of files. Nothing where nothing fits, or within a second "
     "and a\n"
     "half nothing was found.",
     "complete upgrade sh", FALSE, 0, 1, MANY, vr_cmd_complete, TRUE},
    {NULL}};

const VrCliCommand *vr_cli_command_find(const char *name)
{
    for (const VrCliCommand *command = vr_cli_commands; command->name; command++)
        if (g_str_equal(command->name, name))
            return command;
    return NULL;
}

const VrCliCommand *vr_cli_command_nearest(const char *name)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *nearest;

    for (const VrCliCommand *command = vr_cli_commands; command->name; command++)
        if (command->group != VR_GROUP_HIDDEN)
            g_ptr_array_add(names, (gpointer)command->name);
    nearest = vr_near(name, (const char *const *)names->pdata, names->len);
    return nearest ? vr_cli_command_find(nearest) : NULL;
}
