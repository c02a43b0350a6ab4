/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"

#include "base/error.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#define US_PER_MS G_GINT64_CONSTANT(1000)
#define US_PER_S (1000 * US_PER_MS)
#define US_PER_MIN (60 * US_PER_S)
#define US_PER_H (60 * US_PER_MIN)
#define US_PER_D (24 * US_PER_H)

/* A hundred years: a deadline made from any duration that we accept cannot overflow. */
#define MAX_DURATION_US (36525 * US_PER_D)

/* ---- the two clocks ---- */

/* Guards the two below, which change in tests only. A pthread mutex and no GMutex: ThreadSanitizer cannot see into GLib's. */
static pthread_mutex_t source_lock = PTHREAD_MUTEX_INITIALIZER;
static VrClockSource source; /* valid when source_set */
static gboolean source_set;

static gboolean replaced(VrClockSource *copy)
{
    pthread_mutex_lock(&source_lock);
    gboolean set = source_set;
    *copy = source;
    pthread_mutex_unlock(&source_lock);
    return set;
}

void vr_clock_set_source(const VrClockSource *replacement)
{
    pthread_mutex_lock(&source_lock);
    source_set = replacement != NULL;
    source = replacement ? *replacement : (VrClockSource){0};
    pthread_mutex_unlock(&source_lock);
}

gint64 vr_clock_now_ms(void)
{
    VrClockSource test;
    if (replaced(&test) && test.now_ms)
        return test.now_ms(test.data);
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (gint64)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static gpointer find_test_clock(gpointer unused)
{
    return g_strdup(g_getenv("VIRT_REIMAGE_TEST_CLOCK"));
}

/* What a test adds to the wall clock. Without that variable this is one look at a pointer. */
static gint64 test_offset_us(void)
{
    static GOnce once = G_ONCE_INIT;
    static gint64 last_s; /* atomic */
    const char *file = g_once(&once, find_test_clock, NULL);
    char *end;
    if (!file)
        return 0;
    g_autofree char *text = NULL;
    if (g_file_get_contents(file, &text, NULL, NULL)) {
        gint64 s = g_ascii_strtoll(g_strstrip(text), &end, 10);
        if (end > text && !*end && ABS(s) <= MAX_DURATION_US / US_PER_S)
            __atomic_store_n(&last_s, s, __ATOMIC_RELAXED);
    }
    return __atomic_load_n(&last_s, __ATOMIC_RELAXED) * US_PER_S;
}

gint64 vr_clock_wall_us(void)
{
    VrClockSource test;
    if (replaced(&test) && test.wall_us)
        return test.wall_us(test.data);
    return g_get_real_time() + test_offset_us();
}

void vr_clock_sleep_until(gint64 deadline_ms)
{
    VrClockSource test;
    if (replaced(&test) && test.sleep_until) {
        test.sleep_until(deadline_ms, test.data);
        return;
    }
    if (deadline_ms <= 0)
        return;
    struct timespec until = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    (void)clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &until, NULL);
}

static gpointer read_boot_id(gpointer unused)
{
    char *id = NULL;
    if (g_file_get_contents("/proc/sys/kernel/random/boot_id", &id, NULL, NULL) && strlen(g_strstrip(id)) == 36)
        return id;
    g_free(id);
    return g_strdup("unknown");
}

const char *vr_clock_boot_id(void)
{
    static GOnce once = G_ONCE_INIT;
    return g_once(&once, read_boot_id, NULL);
}

/* ---- for people ---- */

char *vr_clock_format(gint64 wall_us)
{
    g_autoptr(GDateTime) epoch = g_date_time_new_from_unix_utc(0);
    g_autoptr(GDateTime) when = g_date_time_add(epoch, wall_us);
    if (!when)
        return g_strdup("-"); /* outside of the years 1 to 9999 */
    g_autofree char *seconds = g_date_time_format(when, "%Y-%m-%dT%H:%M:%S");
    return g_strdup_printf("%s.%03dZ", seconds, g_date_time_get_microsecond(when) / 1000);
}

char *vr_clock_format_duration(gint64 ms)
{
    if (ms < 0)
        return g_strdup("-");
    if (ms < 1000)
        return g_strdup_printf("%" G_GINT64_FORMAT " ms", ms);
    if (ms < 59950) /* above, one decimal would round to "60.0 s" */
        return g_strdup_printf("%" G_GINT64_FORMAT ".%" G_GINT64_FORMAT " s", (ms + 50) / 1000, (ms + 50) % 1000 / 100);
    gint64 s = ms > G_MAXINT64 - 500 ? ms / 1000 : (ms + 500) / 1000;
    if (s < 3600)
        return g_strdup_printf("%" G_GINT64_FORMAT " min %02" G_GINT64_FORMAT " s", s / 60, s % 60);
    if (s < 86400)
        return g_strdup_printf("%" G_GINT64_FORMAT " h %02" G_GINT64_FORMAT " min", s / 3600, s % 3600 / 60);
    return g_strdup_printf("%" G_GINT64_FORMAT " d %02" G_GINT64_FORMAT " h", s / 86400, s % 86400 / 3600);
}

/* ---- durations ----
 *
 * Both spellings are numbers with units; one reader of numbers and one adder with overflow checks serve them. Months and
 * years are refused in both: they have no fixed length. */

typedef struct {
    const char *name;
    gint64 us; /* 0: a unit without a fixed length */
} Unit;

/* systemd.time(7), "Parsing Time Spans". */
static const Unit span_units[] = {
    {"", US_PER_S},
    {"usec", 1},
    {"us", 1},
    {"µs", 1},
    {"μs", 1},
    {"msec", US_PER_MS},
    {"ms", US_PER_MS},
    {"seconds", US_PER_S},
    {"second", US_PER_S},
    {"sec", US_PER_S},
    {"s", US_PER_S},
    {"minutes", US_PER_MIN},
    {"minute", US_PER_MIN},
    {"min", US_PER_MIN},
    {"m", US_PER_MIN},
    {"hours", US_PER_H},
    {"hour", US_PER_H},
    {"hr", US_PER_H},
    {"h", US_PER_H},
    {"days", US_PER_D},
    {"day", US_PER_D},
    {"d", US_PER_D},
    {"weeks", 7 * US_PER_D},
    {"week", 7 * US_PER_D},
    {"w", 7 * US_PER_D},
    {"months", 0},
    {"month", 0},
    {"M", 0},
    {"years", 0},
    {"year", 0},
    {"y", 0},
};

/* ISO 8601, in the order in which they may come. */
static const Unit iso_date_units[] = {{"Y", 0}, {"M", 0}, {"W", 7 * US_PER_D}, {"D", US_PER_D}};
static const Unit iso_time_units[] = {{"H", US_PER_H}, {"M", US_PER_MIN}, {"S", US_PER_S}};

static gboolean invalid(GError **error, const char *text, const char *why)
{
    g_autofree char *shown = vr_printable(text, -1);
    g_set_error(error, VR_ERROR, VR_ERROR_INVALID, "duration \"%.64s\" %s", shown, why);
    return FALSE;
}

typedef struct {
    gint64 whole, fraction, scale; /* whole + fraction/scale */
} Number;

/* Digits, and after a dot up to six more. Moves *p behind them. */
static gboolean read_number(const char **p, Number *number)
{
    *number = (Number){.scale = 1};
    if (!g_ascii_isdigit(**p))
        return FALSE;
    for (; g_ascii_isdigit(**p); (*p)++)
        if (__builtin_mul_overflow(number->whole, 10, &number->whole) ||
            __builtin_add_overflow(number->whole, **p - '0', &number->whole))
            return FALSE;
    if (**p != '.')
        return TRUE;
    (*p)++;
    if (!g_ascii_isdigit(**p))
        return FALSE;
    for (; g_ascii_isdigit(**p) && number->scale < 1000000; (*p)++) {
        number->fraction = number->fraction * 10 + (**p - '0');
        number->scale *= 10;
    }
    return !g_ascii_isdigit(**p);
}

static gboolean add(gint64 *total_us, const Number *number, gint64 unit_us)
{
    gint64 us;
    if (__builtin_mul_overflow(number->whole, unit_us, &us) ||
        __builtin_add_overflow(us, unit_us * number->fraction / number->scale, &us) ||
        __builtin_add_overflow(us, *total_us, total_us))
        return FALSE;
    return *total_us <= MAX_DURATION_US;
}

/* One half of an ISO duration: the units of the table, each at most once and in its order. */
static gboolean parse_iso_part(const char *text, const char **p, const Unit *units, gsize n, gint64 *us, GError **error)
{
    gsize next = 0;
    while (**p && **p != 'T') {
        Number number;
        if (!read_number(p, &number))
            return invalid(error, text, "has a number that is missing, too large or too exact");
        while (next < n && units[next].name[0] != **p)
            next++;
        if (next == n)
            return invalid(error, text, "has an unknown unit or one in the wrong place");
        if (units[next].us == 0)
            return invalid(error, text, "uses months or years, which have no fixed length: say days");
        if (number.scale != 1 && units[next].us != US_PER_S)
            return invalid(error, text, "has a fraction that is not one of seconds");
        if (!add(us, &number, units[next].us))
            return invalid(error, text, "is too long");
        next++;
        (*p)++;
    }
    return TRUE;
}

static gboolean parse_iso(const char *text, gint64 *us, GError **error)
{
    const char *p = text + 1;
    if (!*p)
        return invalid(error, text, "is empty");
    if (!parse_iso_part(text, &p, iso_date_units, G_N_ELEMENTS(iso_date_units), us, error))
        return FALSE;
    if (!*p)
        return TRUE;
    p++;
    if (!*p)
        return invalid(error, text, "has nothing after its T");
    if (!parse_iso_part(text, &p, iso_time_units, G_N_ELEMENTS(iso_time_units), us, error))
        return FALSE;
    return *p ? invalid(error, text, "has a second T") : TRUE;
}

static const Unit *find_span_unit(const char *name, gsize length)
{
    for (gsize i = 0; i < G_N_ELEMENTS(span_units); i++)
        if (strlen(span_units[i].name) == length && strncmp(span_units[i].name, name, length) == 0)
            return &span_units[i];
    return NULL;
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t");
}

static gboolean parse_span(const char *text, gint64 *us, GError **error)
{
    const char *p = skip_blanks(text);
    if (!*p)
        return invalid(error, text, "is empty");
    while (*p) {
        Number number;
        if (*p == '-')
            return invalid(error, text, "is negative");
        if (!read_number(&p, &number))
            return invalid(error, text, "has a number that is missing, too large or too exact");
        p = skip_blanks(p);
        gsize length = strcspn(p, " \t0123456789.-");
        const Unit *unit = find_span_unit(p, length);
        if (!unit)
            return invalid(error, text, "has an unknown unit");
        if (unit->us == 0)
            return invalid(error, text, "uses months or years, which have no fixed length: say days");
        if (!add(us, &number, unit->us))
            return invalid(error, text, "is too long");
        p = skip_blanks(p + length);
    }
    return TRUE;
}

gboolean vr_clock_parse_duration(const char *text, gint64 *ms, GError **error)
{
    gint64 us = 0;
    if (!text)
        return invalid(error, "", "is empty");
    gboolean ok = *text == 'P' ? parse_iso(text, &us, error) : parse_span(text, &us, error);
    if (ok)
        *ms = (us + US_PER_MS - 1) / US_PER_MS; /* up: what is not zero must not become zero */
    return ok;
}
