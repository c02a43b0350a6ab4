/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A YAML (so JSON too) document as a tree whose nodes know their lines. Bounded: 1 MiB, depth 32; anchors, aliases,
 * tags, more than one document and keys that come twice (without regard to case) are refused with file and line.
 */
#pragma once

#include <glib.h>

#define VR_YAML_MAX_SIZE (1024 * 1024)
#define VR_YAML_MAX_DEPTH 32

typedef enum { VR_YAML_SCALAR, VR_YAML_LIST, VR_YAML_MAP } VrYamlKind;

typedef struct VrYamlNode {
    VrYamlKind kind;
    guint line;        /* from 1 */
    char *text;        /* scalar: UTF-8 without NUL; NULL else */
    gsize begin, end;  /* scalar: where it stands in the text, quotes too, in characters */
    gboolean plain;    /* scalar: written without quotes, so it may be a number, a boolean or null */
    GPtrArray *keys;   /* map: VrYamlNode * of scalars, beside values; NULL else */
    GPtrArray *values; /* map and list: VrYamlNode *; NULL else */
} VrYamlNode;

/* The root node. file_name is for messages only. Errors are VR_ERROR_USAGE ("lab.yaml:7: ..."). */
VrYamlNode *vr_yaml_parse(const char *text, gsize length, const char *file_name, GError **error);
void vr_yaml_node_free(VrYamlNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrYamlNode, vr_yaml_node_free)
