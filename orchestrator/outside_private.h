/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Private to outside: outside.c has the list and what lies on this host, outside_url.c asks over the network, outside_guest.c from within a guest. */
#pragma once

#include "orchestrator/outside.h"

typedef enum {
    VR_THING_FILE,
    VR_THING_PROGRAM,
    VR_THING_AUTHORITIES, /* PEM: at least one must be valid */
    VR_THING_CERTIFICATE, /* PEM: all must be valid */
    VR_THING_TOKEN,
    VR_THING_URL
} VrThingKind;

typedef struct {
    VrThingKind kind;
    char *key;                       /* "externalResources[2]" */
    char *path;                      /* NULL: of a URL, of a token whose end alone is known */
    const VrModelResource *resource; /* NULL: something else of the model */
    gint64 until_us; /* of a URL: until when the certificates of its server are good; 0: it did not answer yet */
} VrThing;

struct VrOutside {
    const VrModel *model;
    GPtrArray *things; /* VrThing * */
    GPtrArray *passed; /* char * */
};

/* One look at all of them. */
typedef struct {
    VrOutside *outside;
    const VrOutsideQuestion *question;
    gint64 now_us; /* wall clock */
    GPtrArray *findings;
} VrOutsideLook;

/* Adds a finding about a thing. Takes text. */
void vr_outside_found(VrOutsideLook *look, const VrThing *thing, const char *id, char *text, const char *remedy);

/* Until when it must be good. Wall clock. */
gint64 vr_outside_due_us(const VrOutsideLook *look, const VrThing *thing);

/* FALSE, with a finding, when it has ended or ends too early. what: "the token", "the certificate of 'shop.example'". */
gboolean vr_outside_lasts(VrOutsideLook *look, const VrThing *thing, const char *what, gint64 until_us);

/* Asks all URLs; those for guests too. */
void vr_outside_look_at_urls(VrOutsideLook *look);

/* Asks for a URL from inside a guest, by its curl, else its wget: *status is that of HTTP. FALSE: error says why none came. */
gboolean vr_outside_ask_guest(VrHv *hv, const char *uuid, const char *url, gboolean get, const gint *aborted,
                              int *status, GError **error);
