/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/model_notice.h"

#define PROFILE "scheduledEventsProfile.osImageNotificationProfile."
#define MODEL(field) G_STRUCT_OFFSET(VrModel, notice.field)
#define IN_GUEST(field) .parse = vr_model_text, .offset = MODEL(field), .check = vr_model_absolute_path
#define COMMAND(field) .parse = vr_model_texts, .offset = MODEL(field)
#define SPAN(field, most, words)                                                                                       \
    .parse = vr_model_duration, .offset = MODEL(field), .min = 1000, .max = (most), .data = (words)

static const VrModelChoice answers[] = {{"refuse", FALSE}, {"proceed", TRUE}, {0}};

static const VrModelKey notice_keys[] = {
    {.name = "enable", .parse = vr_model_boolean, .offset = MODEL(enable)},
    {.name = "notBeforeTimeout", SPAN(not_before_ms, 86400000, "PT1S to P1D")},
    {.name = "file", IN_GUEST(file)},
    {.name = "command", COMMAND(command)},
    {.name = "approvalFile", IN_GUEST(approval_file)},
    {.name = "approvalCommand", COMMAND(approval_command)},
    {.name = "busyFile", IN_GUEST(busy_file)},
    {.name = "busyCommand", COMMAND(busy_command)},
    {.name = "busyLimit", SPAN(busy_limit_ms, 604800000, "PT1S to P7D")},
    {.name = "onBusyLimit", .parse = vr_model_choice, .offset = MODEL(goes_though_busy), .data = answers},
    {.name = "withoutAgent", .parse = vr_model_choice, .offset = MODEL(goes_without_agent), .data = answers},
    {0},
};

const VrModelKey vr_model_events_keys[] = {
    {.name = "osImageNotificationProfile", .parse = vr_model_section, .offset = 0, .data = notice_keys},
    {0},
};

void vr_model_notice_defaults(VrNoticeProfile *notice)
{
    *notice = (VrNoticeProfile){.not_before_ms = 900000, /* Azure's PT15M */
                                .file = g_strdup("/run/virt-reimage-notice.json"),
                                .busy_limit_ms = 3600000};
}

void vr_model_notice_clear(VrNoticeProfile *notice)
{
    g_free(notice->file);
    g_strfreev(notice->command);
    g_free(notice->approval_file);
    g_strfreev(notice->approval_command);
    g_free(notice->busy_file);
    g_strfreev(notice->busy_command);
}

gboolean vr_model_check_notice(VrModelParser *parser, const VrNoticeProfile *notice, GError **error)
{
    if (notice->approval_file != NULL && notice->approval_command != NULL)
        return vr_model_fail_at(parser, PROFILE "approvalCommand", "goes without approvalFile: give one of the two",
                                error);
    if (notice->busy_file != NULL && notice->busy_command != NULL)
        return vr_model_fail_at(parser, PROFILE "busyCommand", "goes without busyFile: give one of the two", error);
    return vr_model_check_program(parser, PROFILE "command", notice->command, error) &&
           vr_model_check_program(parser, PROFILE "approvalCommand", notice->approval_command, error) &&
           vr_model_check_program(parser, PROFILE "busyCommand", notice->busy_command, error);
}
