/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The routes: which method and path is which command of virt-reimage, with which words. Pure: no I/O.
 *
 * Where Azure has a route for it, ours is that one (Microsoft.Compute's, without /subscriptions/…/providers/Microsoft.Compute, which may
 * stand before it); what Azure has not is in the same manner. Letters of fixed parts count without regard to case, as they do there.
 * docs/openapi.yaml describes each row.
 */
#pragma once

#include <glib.h>

typedef enum {
    VR_ROUTE_ABOUT,    /* the daemon answers by itself */
    VR_ROUTE_COMMANDS, /* the connection is upgraded (commands.h) */
    VR_ROUTE_DOCUMENT, /* the command's JSON is the answer */
    VR_ROUTE_LINES,    /* it has none: {"messages": [its lines]} */
    VR_ROUTE_TEXT,     /* its text is the answer: OpenMetrics */
    VR_ROUTE_LONG,     /* it begins a run: 202, and where to look */
    VR_ROUTE_PUT,      /* the body is the model */
    VR_ROUTE_PATCH     /* the body is merged into the model that is there */
} VrRouteKind;

typedef struct {
    const char *method, *path; /* "/virtualMachineScaleSets/{set}/…": a part in braces is a value */
    VrRouteKind kind;
    gboolean read_only; /* may come by the read-only socket */
    const char *words;  /* of the command: "reimage --detach {set} {instances}"; NULL for ABOUT and COMMANDS */
    const char *fields; /* what query and body may say, by name (VrRouteField), with blanks between; "" for nothing */
} VrRoute;

/* Ended by a row without a method. */
extern const VrRoute vr_routes[];

typedef enum {
    VR_FIELD_TEXT,     /* --option=TEXT */
    VR_FIELD_NUMBER,   /* --option=N, from 0 */
    VR_FIELD_FLAG,     /* --option, if true */
    VR_FIELD_LIST,     /* --option=TEXT for each */
    VR_FIELD_ARGUMENT, /* a number in the place of {name} in the words */
    VR_FIELD_WORD,     /* a text there */
    VR_FIELD_INSTANCES /* names in the place of {instances}; the one name "*" is --all */
} VrRouteFieldKind;

typedef struct {
    const char *name; /* in query and body */
    VrRouteFieldKind kind;
    const char *option; /* NULL: ARGUMENT, WORD, INSTANCES */
} VrRouteField;

/* Exact, with its case. NULL: there is no such field. */
const VrRouteField *vr_route_field(const char *name);

/* TRUE when fields (VrRoute.fields) has it. */
gboolean vr_route_takes(const VrRoute *route, const char *name);

#define VR_ROUTE_VALUES_MAX 4

typedef struct {
    const VrRoute *route; /* NULL: none; see path_known */
    gboolean path_known;  /* the path is there, with other methods */
    guint n_values;
    char *names[VR_ROUTE_VALUES_MAX];  /* "set" */
    char *values[VR_ROUTE_VALUES_MAX]; /* unescaped UTF-8, not empty */
} VrRouteMatch;

/* path: as it came, escaped, without the query. */
void vr_route_match(const char *method, const char *path, VrRouteMatch *match);
/* The methods that a path is there for, as "GET, PUT"; "" for none. Free with g_free. */
char *vr_route_methods(const char *path);
const char *vr_route_value(const VrRouteMatch *match, const char *name); /* NULL: it has none */
void vr_route_match_clear(VrRouteMatch *match);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VrRouteMatch, vr_route_match_clear)

/* "2018-10-01" (the first with automatic OS upgrades) and later ones of Microsoft.Compute; NULL-terminated. */
extern const char *const vr_route_api_versions[];
