/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "orchestrator/neighbour.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAC_BYTES 6
#define KNOWN (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP)

typedef struct {
    int family;
    gsize length;
    guint8 bytes[sizeof(struct in6_addr)];
} Address;

static gboolean parse(const char *ip, Address *address)
{
    static const guint8 v4_mapped[12] = {[10] = 0xff, [11] = 0xff};

    address->family = AF_INET;
    address->length = sizeof(struct in_addr);
    if (inet_pton(AF_INET, ip, address->bytes) == 1)
        return TRUE;
    if (inet_pton(AF_INET6, ip, address->bytes) != 1)
        return FALSE;
    if (memcmp(address->bytes, v4_mapped, sizeof(v4_mapped)) == 0) {
        memmove(address->bytes, address->bytes + sizeof(v4_mapped), sizeof(struct in_addr));
        return TRUE;
    }
    address->family = AF_INET6;
    address->length = sizeof(struct in6_addr);
    return TRUE;
}

static gboolean ask_for_all(int fd, int family)
{
    struct {
        struct nlmsghdr header;
        struct ndmsg body;
    } request = {
        .header = {.nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETNEIGH, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .body = {.ndm_family = (guint8)family}};

    return send(fd, &request, sizeof(request), 0) == (gssize)sizeof(request);
}

/* An entry of zeros is the loopback's, for an IPv6 address of this host: nobody's MAC. */
static gboolean is_mac(const guint8 *link)
{
    static const guint8 none[MAC_BYTES];

    return memcmp(link, none, MAC_BYTES) != 0;
}

/* The MAC of one entry of the table, when it is the address that is looked for. */
static gboolean read_entry(struct nlmsghdr *header, const Address *wanted, char mac[18])
{
    struct ndmsg *entry = NLMSG_DATA(header);
    gssize left = (gssize)header->nlmsg_len - (gssize)NLMSG_LENGTH(sizeof(*entry));
    const guint8 *link = NULL;
    gboolean found = FALSE;

    if (header->nlmsg_type != RTM_NEWNEIGH || !(entry->ndm_state & KNOWN))
        return FALSE;
    for (struct rtattr *at = (struct rtattr *)(entry + 1); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
        if (at->rta_type == NDA_DST && RTA_PAYLOAD(at) == wanted->length)
            found = memcmp(RTA_DATA(at), wanted->bytes, wanted->length) == 0;
        if (at->rta_type == NDA_LLADDR && RTA_PAYLOAD(at) == MAC_BYTES)
            link = RTA_DATA(at);
    }
    if (!found || !link || !is_mac(link))
        return FALSE;
    g_snprintf(mac, 18, "%02x:%02x:%02x:%02x:%02x:%02x", link[0], link[1], link[2], link[3], link[4], link[5]);
    return TRUE;
}

/* 1 found, 0 it may be in the next part, -1 it is not there. */
static int read_part(int fd, const Address *wanted, char mac[18])
{
    guint8 buffer[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
    gssize length = recv(fd, buffer, sizeof(buffer), 0);

    if (length <= 0)
        return -1;
    for (struct nlmsghdr *header = (struct nlmsghdr *)buffer; NLMSG_OK(header, length);
         header = NLMSG_NEXT(header, length)) {
        if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR)
            return -1;
        if (read_entry(header, wanted, mac))
            return 1;
    }
    return 0;
}

gboolean vr_neighbour_mac(const char *ip, char mac[18])
{
    vr_autofd fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    const struct timeval patience = {.tv_sec = 1};
    Address wanted;
    int found = 0;

    if (fd < 0 || !parse(ip, &wanted) || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
        !ask_for_all(fd, wanted.family))
        return FALSE;
    while (found == 0)
        found = read_part(fd, &wanted, mac);
    return found > 0;
}
