/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For report.py: each line of standard input is a document of a run; its page goes to standard output, with a NUL byte behind it. */
#include "orchestrator/cli/report.h"

#include <stdio.h>

int main(void)
{
    json_t *document;

    while ((document = json_loadf(stdin, JSON_DISABLE_EOF_CHECK, NULL))) {
        g_autofree char *page = vr_report_page(document);

        fputs(page, stdout);
        fputc('\0', stdout);
        json_decref(document);
    }
    return 0;
}
