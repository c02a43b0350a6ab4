/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Private to the model: tables of keys and the parsers of their values. A section of the document is a table; each
 * row says how a key is read and where the value goes. A refusal names file, line, the path of the key, the value
 * and what would be right.
 */
#pragma once

#include "orchestrator/model.h"
#include "orchestrator/yaml_doc.h"

typedef struct {
    const char *file_name;
    GString *path;     /* of the key that is being read: "upgradePolicy.mode" */
    GHashTable *lines; /* path of each key that was read -> its line */
    gboolean use_rolling_policy;
    GPtrArray *host_files; /* const VrYamlNode *: the names of files on this host, in the order of the document */
} VrModelParser;

typedef struct VrModelKey VrModelKey;

/* Reads one value. target is where it goes (NULL for VR_NOWHERE). */
typedef gboolean (*VrModelValue)(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                                 GError **error);

/* NULL, or what a text must be ("must be an absolute path"). */
typedef const char *(*VrModelCheck)(const char *text);
const char *vr_model_absolute_path(const char *text);

typedef struct {
    const char *name;
    int value; /* VR_NOT_YET: known, but refused by name */
} VrModelChoice;
#define VR_NOT_YET (-1)

#define VR_NOWHERE G_MAXSIZE

struct VrModelKey {
    const char *name;
    VrModelValue parse;
    gsize offset;     /* in the struct of the section; VR_NOWHERE: only checked */
    gint64 min, max;  /* numbers and durations (ms), inclusive; vr_model_only: the boolean that is allowed */
    const void *data; /* section and list of mappings: VrModelKey[], choice: VrModelChoice[], short name: what it
                         names; duration: the range in words */
    VrModelCheck check;
    const char *same_as; /* the key that this one is an alias of */
};

/* vr_model_parse() that also gives the root of the document (*root, freed by the caller) and of it the names of files on this host: vr_model_text_absolute()
 * puts others in their place. Both may be NULL. */
VrModel *vr_model_parse_document(const char *text, gsize length, const char *file_name, VrYamlNode **root,
                                 GPtrArray *host_files, GError **error);

/* The table of the whole document. A section's data is its own table; so is that of `instances`, for each item. */
extern const VrModelKey vr_model_root_keys[];

/* Sets VR_ERROR_USAGE "FILE:LINE: PATH: TEXT"; always FALSE. */
gboolean vr_model_fail(const VrModelParser *parser, guint line, GError **error, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

/* The same at the key with that path, or at the first line when the document does not have it. */
gboolean vr_model_fail_at(VrModelParser *parser, const char *path, const char *text, GError **error);

/* The line of the key with that path, or 0 when the document does not have it. */
guint vr_model_line(const VrModelParser *parser, const char *path);

/* An argv that was read at that path, or NULL: a program with its absolute path comes first. */
gboolean vr_model_check_program(VrModelParser *parser, const char *path, char **argv, GError **error);

/* Reads a map by a table that ends with a row without name; base is the struct that the offsets are of. */
gboolean vr_model_keys(VrModelParser *parser, const VrYamlNode *map, const VrModelKey *keys, void *base,
                       GError **error);

/* The parsers, each with the type of its target. */
gboolean vr_model_section(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error); /* the struct that the rows' offsets are of */
gboolean vr_model_only(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                       GError **error); /* none: a boolean of which one value is not supported yet */
gboolean vr_model_boolean(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error); /* gboolean */
gboolean vr_model_boolean_not(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                              GError **error); /* gboolean, the opposite */
gboolean vr_model_number(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                         GError **error); /* guint */
gboolean vr_model_mode(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                       GError **error); /* guint; octal, as chmod takes it, in quotes or not */
gboolean vr_model_seconds(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error); /* gint64 of milliseconds; min and max in seconds */
gboolean vr_model_duration(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                           GError **error); /* gint64 of milliseconds */
gboolean vr_model_choice(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                         GError **error); /* an enum */
gboolean vr_model_text(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                       GError **error); /* char * */
gboolean vr_model_host_file(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                            GError **error); /* char *, the name of a file on this host, absolute or not */
gboolean vr_model_short_name(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                             GError **error); /* char * */
gboolean vr_model_version(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                          GError **error); /* char * */
gboolean vr_model_texts(VrModelParser *parser, const VrYamlNode *value, const VrModelKey *key, void *target,
                        GError **error); /* char **, each checked */
