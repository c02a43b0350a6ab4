/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"

#include <errno.h>
#include <string.h>

typedef struct {
    char *parts[VR_ERROR_PARTS_];
} VrErrorPrivate;

static void vr_error_private_init(VrErrorPrivate *private)
{
    memset(private, 0, sizeof(*private));
}

static void vr_error_private_copy(const VrErrorPrivate *from, VrErrorPrivate *to)
{
    for (int part = 0; part < VR_ERROR_PARTS_; part++)
        to->parts[part] = g_strdup(from->parts[part]);
}

static void vr_error_private_clear(VrErrorPrivate *private)
{
    for (int part = 0; part < VR_ERROR_PARTS_; part++)
        g_clear_pointer(&private->parts[part], g_free);
}

/* clang-format off */
G_DEFINE_EXTENDED_ERROR(VrError, vr_error)
/* clang-format on */

/* ---- the codes ---- */

/* One row a code, in the order of the enum. Wrong input of any form counts as usage; something that is there and
 * differs from what was asked counts as a refusal. docs/errors.md has the same rows (tests/base/test_error.c). */
static const VrErrorCodeInfo codes[VR_ERROR_LAST_] = {
    [VR_ERROR_FAILED] = {"Failed", 1, "it did not work, and nothing more exact is known",
                         "give the command again with --debug, which says more"},
    [VR_ERROR_USAGE] = {"Usage", 2, "the command line, or one of its arguments, is wrong",
                        "'virt-reimage help COMMAND' shows what it takes"},
    [VR_ERROR_INVALID] = {"Invalid", 2, "a file, a model or an answer does not have the form that it must have",
                          "correct what is named, and give the command again"},
    [VR_ERROR_NOT_FOUND] = {"NotFound", 1, "an image, version, set, instance or file that was named is not there",
                            "'virt-reimage set-list' and 'virt-reimage image-list' show what there is"},
    [VR_ERROR_CONFLICT] = {"Conflict", 4, "it exists already with other content, or somebody changed it meanwhile",
                           "look at what is named as it is now, and give the command again"},
    [VR_ERROR_REFUSED] = {"Refused", 4, "a check says no, before anything was touched",
                          "correct what is named; 'virt-reimage plan SET' shows all that is in the way of a run"},
    [VR_ERROR_POLICY] = {"Policy", 3, "the policy of the set stopped the run, or would stop it",
                         "'virt-reimage history SET' shows which instances failed and why; 'virt-reimage retry SET' "
                         "tries again what failed"},
    [VR_ERROR_BUSY] = {"Busy", 5, "another process has the set, or is doing what was asked",
                       "'virt-reimage status SET' shows which one; wait for its end, or end it with 'virt-reimage "
                       "cancel SET'"},
    [VR_ERROR_PARTIAL] = {"Partial", 6, "it is done, but some instances failed and were put back",
                          "'virt-reimage history SET' shows which and why; 'virt-reimage retry SET' tries them again"},
    [VR_ERROR_PERSON] = {"Person", 7, "the outcome for an instance is not known, and a person must look",
                         "'virt-reimage recover SET --dry-run' says at what; mend that, then run 'virt-reimage "
                         "recover SET'"},
    [VR_ERROR_CANCELLED] = {"Cancelled", 1, "somebody asked for the end before it was done",
                            "give the command again when it shall be done"},
    [VR_ERROR_TIMEOUT] = {"Timeout", 1, "something did not come to its end in its time",
                          "'virt-reimage status SET' shows what is true now; then give the command again"},
    [VR_ERROR_IO] = {"Io", 1, "the kernel said no to reading or writing a file",
                     "see that the file is there, that it may be read or written, and that its disk is whole (dmesg)"},
    [VR_ERROR_NO_SPACE] = {"NoSpace", 1, "there is not enough space, or the quota is used up",
                           "'virt-reimage image-list' shows what each version takes, and 'virt-reimage image-prune' "
                           "and 'image-delete' take away what nothing needs"},
    [VR_ERROR_CHILD] = {"Child", 1, "a program that was called failed, was killed, or is not installed",
                        "'virt-reimage doctor' shows whether this host has what is needed"},
    [VR_ERROR_HYPERVISOR] = {"Hypervisor", 1, "libvirt said no",
                             "look at the domain with 'virsh dominfo' and at the log of libvirtd"},
    [VR_ERROR_DISCONNECTED] = {"Disconnected", 1,
                               "libvirt cannot be reached, or a call got no answer and its outcome is not known",
                               "see that libvirtd answers ('virsh list'), then run 'virt-reimage recover'"},
    [VR_ERROR_AGENT] = {"Agent", 1, "the guest agent is absent, or its answer makes no sense",
                        "see that qemu-guest-agent runs in the guest: 'virsh qemu-agent-command DOMAIN "
                        "{\"execute\":\"guest-ping\"}'"},
    [VR_ERROR_DATABASE] = {"Database", 1,
                           "the store's state.db is damaged, foreign, newer than this program, or locked",
                           "stop what else uses the store; when a damaged state.db was moved away, 'virt-reimage "
                           "recover --rebuild' restores what can be known without it"},
    [VR_ERROR_FENCED] = {"Fenced", 5, "another process took the set over while this one was working on it",
                         "'virt-reimage status SET' shows who has it now, and what is true"},
};

const VrErrorCodeInfo *vr_error_code_info(int code)
{
    if (code < 0 || code >= VR_ERROR_LAST_)
        code = VR_ERROR_FAILED;
    return &codes[code];
}

int vr_error_code(const GError *error)
{
    return error->domain == VR_ERROR && error->code >= 0 && error->code < VR_ERROR_LAST_ ? error->code
                                                                                         : VR_ERROR_FAILED;
}

int vr_error_code_named(const char *name)
{
    for (int code = 0; code < VR_ERROR_LAST_; code++)
        if (g_strcmp0(name, codes[code].name) == 0)
            return code;
    return VR_ERROR_FAILED;
}

int vr_error_exit_status(const GError *error)
{
    return error ? vr_error_code_info(vr_error_code(error))->exit_status : 0;
}

const char *vr_error_name(int code)
{
    return vr_error_code_info(code)->name;
}

/* ---- the parts ---- */

/* What stands at the end of the message; "" where the error has no parts, and where somebody has put another message in. */
static char *tail_of(const GError *error)
{
    const VrErrorPrivate *private = error->domain == VR_ERROR ? vr_error_get_private(error) : NULL;
    GString *tail = g_string_new(NULL);

    for (int part = 0; private && part < VR_ERROR_PARTS_; part++)
        if (private->parts[part])
            g_string_append_printf(tail, "%s%s", tail->len > 0 || part != VR_ERROR_CAUSE ? "; " : "",
                                   private->parts[part]);
    if (!g_str_has_suffix(error->message, tail->str))
        g_string_truncate(tail, 0);
    return g_string_free(tail, FALSE);
}

char *vr_error_what(const GError *error)
{
    g_autofree char *tail = tail_of(error);
    char *what = g_strndup(error->message, strlen(error->message) - strlen(tail));

    if (*tail && g_str_has_suffix(what, ": ")) /* which stands before the cause */
        what[strlen(what) - 2] = '\0';
    return what;
}

const char *vr_error_part(const GError *error, VrErrorPart part)
{
    g_autofree char *tail = tail_of(error);

    return *tail ? ((const VrErrorPrivate *)vr_error_get_private(error))->parts[part] : NULL;
}

static void compose(GError *error, const char *what)
{
    const VrErrorPrivate *private = vr_error_get_private(error);
    GString *message = g_string_new(what);

    for (int part = 0; part < VR_ERROR_PARTS_; part++)
        if (private->parts[part])
            g_string_append_printf(message, "%s%s",
                                   message->len == 0        ? ""
                                   : part == VR_ERROR_CAUSE ? ": "
                                                            : "; ",
                                   private->parts[part]);
    g_free(error->message);
    error->message = g_string_free(message, FALSE);
}

static void add_part(GError **error, VrErrorPart part, const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);
    g_autofree char *what = NULL;
    VrErrorPrivate *private;
    char **place;

    if (!error || !*error || (*error)->domain != VR_ERROR || !*text)
        return;
    private = vr_error_get_private(*error);
    what = vr_error_what(*error);
    if (g_str_equal(what, (*error)->message)) /* what it had is not in the message any more */
        vr_error_private_clear(private);
    place = &private->parts[part];
    if (*place && part != VR_ERROR_NOW)
        return;
    g_autofree char *old = g_steal_pointer(place);
    *place = old ? g_strdup_printf("%s; %s", old, text) : g_steal_pointer(&text);
    compose(*error, what);
}

#define ADD_PART(part)                                                                                                 \
    do {                                                                                                               \
        va_list args;                                                                                                  \
        va_start(args, format);                                                                                        \
        add_part(error, part, format, args);                                                                           \
        va_end(args);                                                                                                  \
    } while (0)

void vr_error_cause(GError **error, const char *format, ...)
{
    ADD_PART(VR_ERROR_CAUSE);
}

void vr_error_now(GError **error, const char *format, ...)
{
    ADD_PART(VR_ERROR_NOW);
}

void vr_error_next(GError **error, const char *format, ...)
{
    ADD_PART(VR_ERROR_NEXT);
}

void vr_error_reword(GError **error, VrErrorPart part, const char *text)
{
    if (!error || !*error || !vr_error_part(*error, part))
        return;
    g_autofree char *what = vr_error_what(*error);
    char **place = &vr_error_get_private(*error)->parts[part];
    g_free(*place);
    *place = g_strdup(text);
    compose(*error, what);
}

void vr_error_is_cause(GError **error)
{
    if (!error || !*error || (*error)->domain != VR_ERROR)
        return;
    VrErrorPrivate *private = vr_error_get_private(*error);
    vr_error_private_clear(private);
    private->parts[VR_ERROR_CAUSE] = g_strdup((*error)->message);
}

void vr_error_adopt(GError **error, const GError *from)
{
    if (!error || !*error || (*error)->domain != VR_ERROR)
        return;
    g_autofree char *tail = tail_of(from);
    if (!*tail || !g_str_has_suffix((*error)->message, tail))
        return;
    VrErrorPrivate *private = vr_error_get_private(*error);
    vr_error_private_clear(private);
    vr_error_private_copy(vr_error_get_private(from), private);
}

static void add_line(GString *text, const char *name, const char *said)
{
    g_autofree char *shown = vr_printable(said, -1);

    if (*shown)
        g_string_append_printf(text, "%s%s\n", name, shown);
}

/* Whatever was being done, who has no space makes some. Of other codes the row says too little to stand beside an error of its own. */
static const char *next_of(const GError *error)
{
    const char *next = vr_error_part(error, VR_ERROR_NEXT);

    return !next && vr_error_code(error) == VR_ERROR_NO_SPACE ? codes[VR_ERROR_NO_SPACE].next : next;
}

char *vr_error_text(const GError *error)
{
    g_autofree char *what = vr_error_what(error);
    const char *cause = vr_error_part(error, VR_ERROR_CAUSE);
    GString *text = g_string_new(NULL);

    add_line(text, "error: ", *what || !cause ? what : cause);
    add_line(text, "  now:   ", vr_error_part(error, VR_ERROR_NOW));
    add_line(text, "  next:  ", next_of(error));
    add_line(text, "  cause: ", *what ? cause : NULL);
    return g_string_free(text, FALSE);
}

/* ---- */

static VrErrorCode code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return VR_ERROR_NO_SPACE;
    case ENOENT:
        return VR_ERROR_NOT_FOUND;
    default:
        return VR_ERROR_IO;
    }
}

void vr_set_error_errno(GError **error, int errnum, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, VR_ERROR, code_of_errno(errnum), what);
    vr_error_cause(error, "%s", g_strerror(errnum));
}

char *vr_printable(const char *text, gssize length)
{
    if (!text)
        return g_strdup("");
    g_autofree char *valid = g_utf8_make_valid(text, length);
    GString *out = g_string_new(NULL);
    for (const char *p = valid; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        g_string_append_unichar(out, g_unichar_isprint(c) ? c : '?');
    }
    return g_string_free(out, FALSE);
}

char *vr_shell_word(const char *text)
{
    static const char plain[] = G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "@%+=:,./_-"; /* means itself to every shell */

    return text[0] != '\0' && text[strspn(text, plain)] == '\0' ? g_strdup(text) : g_shell_quote(text);
}
