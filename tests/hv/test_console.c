/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* F11: what is kept of a console, and what a person sees of it: bounded, and harmless whatever a guest sends. */
#include "hv/support.h"

#include "hv/console.h"

/* -- Where it goes --------------------------------------------------------------------------------- */

#define DOMAIN(devices) "<domain><name>x</name><devices>" devices "</devices></domain>"

static void devices(void **state)
{
    static const struct {
        const char *xml, *path;
        VrConsoleKind kind;
        gboolean anew;
    } cases[] = {
        {DOMAIN("<serial type='pty'/>"), NULL, VR_CONSOLE_PTY, FALSE},
        {DOMAIN("<console type='pty'><target type='virtio'/></console>"), NULL, VR_CONSOLE_PTY, FALSE},
        {DOMAIN("<serial type='pty'><log file='/l' append='off'/></serial><console type='pty'/>"), "/l",
         VR_CONSOLE_FILE, TRUE},
        {DOMAIN("<serial type='tcp'><log file='/l' append='on'/></serial>"), "/l", VR_CONSOLE_FILE, FALSE},
        {DOMAIN("<serial type='pty'><log file='/l'/></serial>"), "/l", VR_CONSOLE_FILE, TRUE},
        {DOMAIN("<serial type='file'><source path='/f'/></serial>"), "/f", VR_CONSOLE_FILE, TRUE},
        {DOMAIN("<serial type='file'><source path='/f' append='on'/></serial>"), "/f", VR_CONSOLE_FILE, FALSE},
        {DOMAIN("<serial type='file'><source path='f'/></serial>"), "f", VR_CONSOLE_NONE, TRUE},
        /* libvirt's default is the first console, which is not a serial port here */
        {DOMAIN(
             "<serial type='file'><source path='/f'/></serial><console type='pty'><target type='virtio'/></console>"),
         NULL, VR_CONSOLE_PTY, FALSE},
        {DOMAIN("<serial type='unix'><source mode='bind' path='/s'/></serial>"), NULL, VR_CONSOLE_NONE, FALSE},
        {DOMAIN("<serial type='dev'><source path='/dev/ttyS0'/></serial>"), NULL, VR_CONSOLE_NONE, FALSE},
        {DOMAIN(""), NULL, VR_CONSOLE_NONE, FALSE},
        {"no XML", NULL, VR_CONSOLE_NONE, FALSE},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(VrConsoleDevice) device = {0};
        vr_domain_xml_console(cases[i].xml, &device);
        if (device.kind != cases[i].kind || device.anew != cases[i].anew || g_strcmp0(device.path, cases[i].path) != 0)
            fail_msg("%s: %d %d %s", cases[i].xml, (int)device.kind, device.anew, device.path ? device.path : "-");
    }
}

/* -- What is kept ---------------------------------------------------------------------------------- */

static char *numbered(guint from, guint to)
{
    GString *text = g_string_new(NULL);

    for (guint i = from; i < to; i++)
        g_string_append_printf(text, "%07u\n", i);
    return g_string_free(text, FALSE);
}

/* All of what is short, whatever pieces it comes in; of what is long the first and the last bytes, and how many are between. */
static void first_and_last_are_kept(void **state)
{
    static const guint lines[] = {1, VR_CONSOLE_HEAD / 8, (VR_CONSOLE_HEAD + VR_CONSOLE_TAIL) / 8,
                                  (VR_CONSOLE_HEAD + VR_CONSOLE_TAIL) / 8 + 1, 200000};
    static const gsize pieces[] = {1, 4093, 1024 * 1024};

    for (gsize i = 0; i < G_N_ELEMENTS(lines) * G_N_ELEMENTS(pieces); i++) {
        g_autoptr(VrConsole) console = vr_console_new();
        g_autofree char *sent = numbered(0, lines[i % G_N_ELEMENTS(lines)]);
        gsize length = strlen(sent), piece = pieces[i / G_N_ELEMENTS(lines)], got;
        gsize keeps = VR_CONSOLE_HEAD + VR_CONSOLE_TAIL;
        g_autoptr(GString) expected = g_string_new_len(sent, (gssize)MIN(length, VR_CONSOLE_HEAD));

        for (gsize at = 0; at < length; at += piece)
            assert_true(vr_console_add(console, sent + at, MIN(piece, length - at)));
        if (length > keeps)
            g_string_append_printf(expected, "\n[virt-reimage: %" G_GSIZE_FORMAT " bytes are left out here]\n",
                                   length - keeps);
        if (length > VR_CONSOLE_HEAD)
            g_string_append(expected, sent + MAX(VR_CONSOLE_HEAD, (gssize)(length - VR_CONSOLE_TAIL)));
        g_autofree char *kept = vr_console_text(console, &got);
        assert_int_equal(got, expected->len);
        assert_memory_equal(kept, expected->str, got);
        vr_console_close(console);
    }
}

/* NULs and bytes of no character are kept as they came. */
static void bytes_are_kept_as_they_are(void **state)
{
    g_autoptr(VrConsole) console = vr_console_new();
    char all[256];
    gsize got;

    for (guint i = 0; i < sizeof all; i++)
        all[i] = (char)i;
    assert_true(vr_console_add(console, all, sizeof all));
    g_autofree char *kept = vr_console_text(console, &got);
    assert_int_equal(got, sizeof all);
    assert_memory_equal(kept, all, got);
    vr_console_close(console);
}

static void what_was_passed_over_is_counted(void **state)
{
    g_autoptr(VrConsole) console = vr_console_new();
    g_autofree char *head = numbered(0, VR_CONSOLE_HEAD / 8);
    gsize got;

    assert_false(vr_console_has_head(console));
    assert_true(vr_console_add(console, head, VR_CONSOLE_HEAD));
    assert_true(vr_console_has_head(console));
    assert_true(vr_console_add(console, "before", 6));
    vr_console_pass_over(console, 1000);
    assert_true(vr_console_add(console, "behind", 6));
    g_autofree char *kept = vr_console_text(console, &got);
    g_autofree char *end = g_strndup(kept + VR_CONSOLE_HEAD, got - VR_CONSOLE_HEAD);
    assert_string_equal(end, "\n[virt-reimage: 1006 bytes are left out here]\nbehind");
    vr_console_close(console);
}

/* A guest that never stops is not listened to for ever; what is passed over costs nothing. */
static void a_flood_ends(void **state)
{
    g_autoptr(VrConsole) console = vr_console_new();
    g_autofree char *piece = numbered(0, 128 * 1024);
    guint pieces = 0;
    gsize got;

    vr_console_pass_over(console, G_GUINT64_CONSTANT(1) << 40);
    while (vr_console_add(console, piece, 1024 * 1024))
        assert_in_range(++pieces, 0, 64);
    assert_int_equal(pieces, 64);
    g_autofree char *kept = vr_console_text(console, &got);
    assert_in_range(got, VR_CONSOLE_HEAD + VR_CONSOLE_TAIL, VR_CONSOLE_HEAD + VR_CONSOLE_TAIL + 200);
    assert_true(g_str_has_suffix(kept, "\n[virt-reimage: the guest floods its console, which is not read any more]\n"));
    vr_console_close(console);
}

static const char *count(void *data)
{
    ++*(guint *)data;
    return "last word";
}

static void closed_once(void **state)
{
    g_autoptr(VrConsole) console = vr_console_new();
    guint closed = 0;
    gsize got;

    assert_true(vr_console_on_close(console, count, &closed));
    assert_true(vr_console_add(console, "one", 3));
    vr_console_say(console, "first word");
    vr_console_say(console, "second word");
    vr_console_close(console);
    vr_console_close(console);
    assert_int_equal(closed, 1);
    assert_false(vr_console_add(console, "two", 3));
    assert_false(vr_console_on_close(console, count, &closed));
    assert_int_equal(closed, 1);
    g_autofree char *kept = vr_console_text(console, &got);
    assert_string_equal(kept, "one\n[virt-reimage: first word]\n");
    vr_console_drop(console);
    assert_false(vr_console_add(console, "three", 5));

    g_autoptr(VrConsole) other = vr_console_new();
    assert_true(vr_console_on_close(other, count, &closed));
    vr_console_close(other);
    g_autofree char *said = vr_console_text(other, &got);
    assert_string_equal(said, "[virt-reimage: last word]\n");
}

/* -- For a person ---------------------------------------------------------------------------------- */

static void expect_lines(const char *text, gsize length, guint most, const char *expected)
{
    g_autoptr(GPtrArray) lines = vr_console_lines(text, length, most);

    g_ptr_array_set_free_func(lines, g_free);
    g_autoptr(GString) all = g_string_new(NULL);
    for (guint i = 0; i < lines->len; i++)
        g_string_append_printf(all, "%s|", (const char *)lines->pdata[i]);
    assert_string_equal(all->str, expected);
}

#define says(text, expected) expect_lines(text, sizeof(text) - 1, 40, expected)

static void a_person_sees_text(void **state)
{
    says("", "");
    says("one\r\ntwo\r\n", "one|two|");
    says("one\n\n\r\n  \ntwo", "one|two|");
    says("\033[2J\033[1;31mFAILED\033[0m Start \033]0;title\007shop\033(B.\n", "FAILED Start shop.|");
    says("\033]8;;http://x\033\\link\033]8;;\033\\ \033Pq#0\033\\end\033[", "link end|");
    says(" 10%\r 20%\r100%\r\n", "100%|");
    says("ab\b\b\b\bxy\n", "xy|");
    says("tab\there\0\001\177.\n", "tab here.|");
    says("gr\303\274n \377\376 \302\23331m\n", "grün \357\277\275\357\277\275 ?31m|");
    says("a\033", "a|");
    says("a\033\0b\n", "ab|");            /* a zero byte begins no text that goes on to the end of the line */
    says("\342\200\256evil\n", "?evil|"); /* right to left override: no letter */
    expect_lines("1\n2\n3\n4\n", 8, 2, "3|4|");
    expect_lines("1\n2\n", 4, 0, "");
}

/* Nothing of what is shown is longer than its bound, nor cut within a character. */
static void long_lines_are_cut(void **state)
{
    g_autoptr(GString) text = g_string_new(NULL);

    while (text->len < 10 * 1024 * 1024)
        g_string_append(text, "\303\274");
    g_autoptr(GPtrArray) lines = vr_console_lines(text->str, text->len, 40);
    assert_int_equal(lines->len, 1);
    assert_true(g_utf8_validate(lines->pdata[0], -1, NULL));
    assert_true(g_str_has_suffix(lines->pdata[0], "\303\274…"));
    assert_in_range(strlen(lines->pdata[0]), VR_CONSOLE_LINE - 1, VR_CONSOLE_LINE + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices),
        cmocka_unit_test(first_and_last_are_kept),
        cmocka_unit_test(bytes_are_kept_as_they_are),
        cmocka_unit_test(what_was_passed_over_is_counted),
        cmocka_unit_test(a_flood_ends),
        cmocka_unit_test(closed_once),
        cmocka_unit_test(a_person_sees_text),
        cmocka_unit_test(long_lines_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
