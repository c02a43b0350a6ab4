/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzz target once over each file of the directory that is named: the corpus as a plain test. */
#include <glib.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const guint8 *bytes, gsize size);

static gboolean replay(const char *path)
{
    g_autofree char *bytes = NULL;
    gsize size;
    g_autoptr(GError) error = NULL;
    if (!g_file_get_contents(path, &bytes, &size, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return FALSE;
    }
    (void)LLVMFuzzerTestOneInput((const guint8 *)bytes, size);
    return TRUE;
}

int main(int argc, char **argv)
{
    g_autoptr(GDir) dir = argc == 2 ? g_dir_open(argv[1], 0, NULL) : NULL;
    guint n = 0;
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(argv[1], name, NULL);
        if (!replay(path))
            return 1;
        n++;
    }
    printf("%u inputs\n", n);
    return n > 0 ? 0 : 1;
}
