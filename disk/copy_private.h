/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Between the parts of the copy engine; not for others, but for tests.
 *
 *   copy_stream   segments -> blocks: what is read into one buffer and written at one place
 *   copy_file     a descriptor and the best way to read or write it: cached or direct, found by trying
 *   copy_unpack  packed clusters, by threads
 *   digest        SHA-256 beside all of it
 *   copy_ring, copy_plain   the two ways to move blocks;   copy   the job around them
 */
#pragma once

#include "disk/copy.h"

#define VR_COPY_ALIGNMENT 4096       /* of buffers, and of what O_DIRECT is asked for */
#define VR_COPY_GRAIN (64u << 10)    /* zeros are looked for in pieces of this */
#define VR_COPY_MAX_BLOCK (2u << 20) /* of one buffer */
#define VR_COPY_SOURCES 33           /* different descriptors that segments may name: VR_CONVERT_LINKS, and a target */
#define VR_COPY_MAX_BUFFERS (32u << 20) /* of all buffers together */

/* ---- segments of a plain file: where it has data ---- */

typedef struct {
    int fd;
    guint64 length;   /* of the whole source */
    guint64 at;       /* next byte that was not given out */
    guint64 data_end; /* end of the data extent that `at` lies in, when at < data_end */
} VrSegments;

/* The next piece of data, at most max bytes: FALSE at the end. What lies between two pieces is a hole. errno-free: a file
 * system that cannot tell is one extent of data. */
gboolean vr_segments_next(VrSegments *segments, guint64 max, guint64 *offset, guint32 *length);

/* ---- blocks ---- */

#define VR_BLOCK_PARTS 32

typedef struct {
    int fd;
    guint64 offset;
    guint32 at, length; /* in the block's buffer */
    VrPacking packing;
    guint32 packed, skip; /* as in VrCopySegment */
} VrPart;

/* What fills one buffer: parts without gaps between them. Bytes from memory are in the buffer already. */
typedef struct {
    guint64 target;
    guint32 length;
    gboolean is_shared; /* the targets have it already: it is read for the digest only */
    guint n_parts, n_packed;
    VrPart parts[VR_BLOCK_PARTS];
} VrBlock;

typedef struct {
    const VrCopyJob *job;
    VrSegments holes;   /* of source_fd */
    gsize index;        /* of segments */
    VrCopySegment now;  /* what is left of the present segment; length 0: ask */
    VrCopySegment rest; /* of a segment whose beginning is shared */
    gboolean is_shared; /* `now` is; see VrBlock */
    guint64 end;        /* of the last block: the next may not begin before */
    const int *share;   /* NULL, or targets that may share blocks with the segments' files, until one refuses */
    guint n_share;
    gboolean digest; /* what is shared must be read */
    struct {
        int fd;
        gboolean cold;         /* it was not in the page cache, through which it is read */
    } packed[VR_COPY_SOURCES]; /* the sources of packed segments */
    guint n_packed;
} VrStream;

struct VrCopyRun;
void vr_stream_init(VrStream *stream, const struct VrCopyRun *run);

/* When all reads are done: what came into the page cache for them leaves it again. */
void vr_stream_end(VrStream *stream);

/* The next block of at most max bytes, a multiple of VR_COPY_ALIGNMENT; length 0 at the end. FALSE with an error. */
gboolean vr_stream_next(VrStream *stream, guint8 *buffer, guint32 max, VrBlock *block, GError **error);

/* ---- files ---- */

/* One descriptor of the caller and what was learned about it. Used by the thread that copies only. */
typedef struct {
    int fd;                           /* the caller's */
    int direct_fd;                    /* ours, with O_DIRECT; open to the end, since requests may name it */
    gboolean is_target;               /* which way the bytes go */
    gboolean no_direct;               /* O_DIRECT does not go */
    gboolean checksums;               /* a target whose file system sums what is written, in the thread that writes */
    gboolean uncached;                /* cached writes are asked for with RWF_DONTCACHE; until the kernel refuses */
    guint64 size;                     /* of a regular file */
    guint64 window_start, window_end; /* what was asked about */
    gboolean window_hot;              /* and lies in the page cache */
} VrCopyFile;

void vr_copy_file_open(VrCopyFile *file, int fd, gboolean is_target);
void vr_copy_file_close(VrCopyFile *file);

/* The descriptor for this request: direct_fd when the request is aligned and what is read is cold. */
int vr_copy_file_choose(VrCopyFile *file, const guint8 *buffer, guint64 offset, guint32 length);

/* More than half of the range lies in the page cache. FALSE too where nobody can tell. */
gboolean vr_range_is_cached(int fd, guint64 offset, guint64 length);

/* The first run of what must be written in buffer[*at, end), in steps of VR_COPY_GRAIN: blocks of zeros are left out.
 * FALSE: none. */
gboolean vr_next_run(const guint8 *buffer, guint32 end, guint32 *at, guint32 *length);

/* Shares the blocks of a whole plain source with all targets where the file system can. digest: they must be readable. */
gboolean vr_copy_clone(const VrCopyJob *job, const int *targets, guint n_targets, gboolean digest);

/* The same for `length` bytes of a segment. */
gboolean vr_copy_clone_range(const VrCopySegment *segment, guint64 length, const int *targets, guint n_targets);

gboolean vr_copy_is_readable(int fd);

/* ---- digest: SHA-256 in stream order in a thread of its own ---- */

typedef struct VrDigest VrDigest; /* NULL wherever it is an argument: no digest is wanted, everything is done */

VrDigest *vr_digest_new(GError **error);

/* In stream order; data must stay as it is until vr_digest_done() is past it, or vr_digest_stop(). NULL data is `length`
 * zeros. Blocks while VR_DIGEST_QUEUE pieces wait. */
#define VR_DIGEST_QUEUE 132
void vr_digest_push(VrDigest *digest, const void *data, guint64 length);

/* Bytes of the stream that were taken in so far. */
guint64 vr_digest_done(VrDigest *digest);

/* Waits until more than `than` bytes were taken in, but at most for a fifth of a second. */
void vr_digest_wait(VrDigest *digest, guint64 than);

/* Gives up: when it returns no buffer is read any more. May be repeated. */
void vr_digest_stop(VrDigest *digest);

/* Takes in all that was pushed, writes the digest and frees. FALSE with an error; FALSE without one after a stop. */
gboolean vr_digest_finish(VrDigest *digest, char hex[VR_DIGEST_HEX_LENGTH + 1], GError **error);

/* ---- packed clusters ---- */

typedef struct VrUnpacker VrUnpacker;

/* A thread's own: scratch memory and the libraries' state. NULL when there is no memory. */
VrUnpacker *vr_unpacker_new(void);
void vr_unpacker_free(VrUnpacker *unpacker);

/* Reads and unpacks the packed parts of the block into the buffer: 0, or -errno with *ret_offset (-EBADMSG: damaged). */
int vr_unpack_block(VrUnpacker *unpacker, const VrBlock *block, guint8 *buffer, guint64 *ret_offset);

/* Threads that do so. A job is the caller's until it is given, and again when it came back; wake_fd becomes readable then. */
typedef struct VrUnpackJob {
    const VrBlock *block;
    guint8 *buffer;
    void *owner;
    int result; /* as vr_unpack_block() */
    guint64 offset;
    struct VrUnpackJob *next; /* the pool's */
} VrUnpackJob;

typedef struct VrUnpackPool VrUnpackPool;

VrUnpackPool *vr_unpack_pool_new(int wake_fd, GError **error);
void vr_unpack_pool_give(VrUnpackPool *pool, VrUnpackJob *job);
VrUnpackJob *vr_unpack_pool_take_back(VrUnpackPool *pool); /* NULL: none is ready */
void vr_unpack_pool_free(VrUnpackPool *pool);              /* NULL: nothing. What no thread has begun is dropped */

/* ---- a limit of bytes a second ---- */

typedef struct {
    guint64 rate;    /* 0: no limit */
    gint64 next_us;  /* the next block may start then */
    gint64 burst_us; /* how much unused time is kept */
} VrRate;

void vr_rate_init(VrRate *rate, guint64 bytes_per_s);
gint64 vr_rate_delay(const VrRate *rate); /* us until the next block; 0: now */
void vr_rate_spend(VrRate *rate, guint64 bytes);

/* ---- moving bytes ---- */

typedef enum { VR_SIDE_SOURCE, VR_SIDE_TARGET } VrCopySide;

/* What the job came to: targets, and whether their blocks are there already. Lives as long as vr_copy(). */
typedef struct VrCopyRun {
    const VrCopyJob *job;
    const int *targets;
    guint n_targets; /* that are to be written: 0 when all blocks are shared and only the digest is wanted */
    VrDigest *digest;
} VrCopyRun;

/* Writes the error of one side, with its place. errnum 0: end of file. */
void vr_copy_fail(GError **error, VrCopySide side, guint64 offset, guint64 length, int errnum);

/* A regular file that is shorter than `length` by now is VR_ERROR_INVALID: its end was taken for a hole. */
gboolean vr_source_is_whole(int fd, guint64 length, GError **error);

gboolean vr_copy_is_cancelled(const VrCopyJob *job, GError **error);
void vr_copy_report(const VrCopyJob *job, guint64 done);

/* Both move all blocks, feed the digest and leave flushing to the caller; on an error they have stopped the digest. Ring:
 * *unavailable tells that the kernel gives us no ring and nothing was done. */
gboolean vr_copy_ring(const VrCopyRun *run, gboolean *unavailable, GError **error);
gboolean vr_copy_plain(const VrCopyRun *run, GError **error);

/* ---- what is done to files; tests put faults in ---- */

/* read and write (on the plain way, and of packed clusters), flush and share are the kernel's calls and return bytes, 0 or
 * -errno. completion sees each result of the ring (which cannot be reached by replacing functions) with its buffer, and
 * gives the one that is believed. May be called by several threads. */
typedef struct {
    gssize (*read)(int fd, guint8 *buffer, gsize length, guint64 offset, void *data);
    gssize (*write)(int fd, const guint8 *buffer, gsize length, guint64 offset, void *data);
    int (*flush)(int fd, void *data);
    int (*share)(int source, guint64 offset, int target, guint64 at, guint64 length, void *data); /* 0: up to the end */
    int (*completion)(VrCopySide side, guint64 offset, guint8 *buffer, int result, void *data);
    void *data;
} VrCopyOps;

extern const VrCopyOps vr_copy_real_ops;
void vr_copy_set_ops(const VrCopyOps *ops); /* NULL: the real ones; before the threads of a test start */
const VrCopyOps *vr_copy_ops(void);
