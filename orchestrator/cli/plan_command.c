/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command that does what a plan shows: its last line. */
#include "base/error.h"
#include "orchestrator/cli/output.h"
#include "orchestrator/cli/plan_private.h"

/* A plan is one of upgrade; a dry run is one of its own command. NULL: nothing is to be done. Free with g_free. */
static char *command_of(const VrPlan *plan)
{
    const VrCli *cli = plan->session->cli;
    const char *name = g_str_equal(cli->command->name, "plan") ? "upgrade" : cli->command->name;

    return plan->targets->chosen > 0 ? vr_cli_command_line(cli, vr_cli_command_find(name)) : NULL;
}

json_t *vr_plan_command_json(const VrPlan *plan, const GError *refusal)
{
    g_autofree char *command = refusal ? NULL : command_of(plan);

    return vr_json_text(command);
}

void vr_plan_next(const VrPlan *plan, const VrFinding *finding, GError **error)
{
    const VrCli *cli = plan->session->cli;
    const char *set = plan->session->set->name;
    g_autofree char *command = cli->command->group == VR_GROUP_RUNS
                                   ? vr_cli_command_line(cli, cli->command)
                                   : g_strdup_printf("%s apply %s --all", VR_PROGRAM, set); /* a model was edited */

    if (cli->options.dry_run || g_str_equal(cli->command->name, "plan"))
        vr_error_next(error, "%s", finding->remedy);
    else
        vr_error_next(error, "%s; '%s --dry-run' shows all", finding->remedy, command);
}

/* What is refused says itself what to type. */
void vr_plan_print_command(const VrPlan *plan, const GError *refusal)
{
    g_autofree char *command = command_of(plan);
    g_autofree char *holder = NULL;

    if (refusal)
        return;
    vr_say(plan->session->cli, "%s", "");
    if (!command)
        vr_say(plan->session->cli, "nothing to do: no instance is to be moved");
    else if (vr_session_is_owned(plan->session, plan->session->set->name, &holder))
        vr_say(plan->session->cli, "to do this, once the set is not owned any more: %s", command);
    else
        vr_say(plan->session->cli, "to do this: %s", command);
}
