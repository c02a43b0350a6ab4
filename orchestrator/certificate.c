/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/certificate.h"

#include "base/error.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <time.h>

#define NAME_MAX_BYTES 200

G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)

static void certificate_free(VrCertificate *certificate)
{
    g_free(certificate->name);
    g_free(certificate);
}

static char *name_of(X509 *x509)
{
    char name[NAME_MAX_BYTES] = "";

    if (X509_NAME_get_text_by_NID(X509_get_subject_name(x509), NID_commonName, name, sizeof(name)) <= 0)
        X509_NAME_oneline(X509_get_subject_name(x509), name, sizeof(name));
    return vr_printable(name, -1);
}

static gboolean read_time(const ASN1_TIME *time, gint64 *us)
{
    struct tm parts;

    if (ASN1_TIME_to_tm(time, &parts) != 1)
        return FALSE;
    *us = (gint64)timegm(&parts) * G_USEC_PER_SEC;
    return TRUE;
}

static VrCertificate *read_certificate(X509 *x509)
{
    VrCertificate *certificate = g_new0(VrCertificate, 1);

    certificate->name = name_of(x509);
    if (read_time(X509_get0_notBefore(x509), &certificate->from_us) &&
        read_time(X509_get0_notAfter(x509), &certificate->until_us))
        return certificate;
    certificate_free(certificate);
    return NULL;
}

static gboolean read_all(BIO *bio, GPtrArray *all)
{
    while (all->len < VR_CERTIFICATES_MAX) {
        g_autoptr(X509) x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        VrCertificate *certificate = x509 != NULL ? read_certificate(x509) : NULL;

        if (x509 == NULL)
            return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE; /* there are no more */
        if (certificate == NULL)
            return FALSE;
        g_ptr_array_add(all, certificate);
    }
    return TRUE;
}

GPtrArray *vr_certificates_parse(const char *pem, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func((GDestroyNotify)certificate_free);
    g_autoptr(BIO) bio = BIO_new_mem_buf(pem, (int)strlen(pem));
    gboolean whole = bio != NULL && read_all(bio, all);

    ERR_clear_error();
    if (whole && all->len > 0)
        return g_steal_pointer(&all);
    g_set_error_literal(error, VR_ERROR, VR_ERROR_INVALID,
                        whole ? "there is no certificate in it (PEM)" : "one of its certificates cannot be read");
    return NULL;
}
