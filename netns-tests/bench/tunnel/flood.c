/* Sends datagrams that a WireGuard end must refuse, as fast as it can, and prints how many a second.
 * Usage: flood index|mac|forged|replay ADDRESS PORT SECONDS LINK
 *   index   data for a random receiver
 *   mac     handshake initiations whose MAC is wrong
 *   forged  data of a session that passes by on LINK, with a later counter
 *   replay  that data as it was */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, LONGEST = 1500, HEADERS = 20 + 8, DATA = 4, INITIATION = 148 };

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

/* The next data message to this port over IPv4; its length. */
static size_t capture(const char *link, int port, unsigned char *message)
{
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = if_nametoindex(link),
	};
	struct timeval patience = { .tv_sec = 5 };
	int wire = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL));
	static unsigned char packet[LONGEST];

	bind(wire, (struct sockaddr *)&at, sizeof at);
	setsockopt(wire, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	for (;;) {
		ssize_t length = recv(wire, packet, sizeof packet, MSG_TRUNC);

		if (length < 0)
			exit(1);
		if (length < HEADERS + 32 || length > LONGEST || packet[0] != 0x45 || packet[9] != IPPROTO_UDP)
			continue;
		if ((packet[22] << 8 | packet[23]) != port || packet[HEADERS] != DATA)
			continue;
		close(wire);
		memcpy(message, packet + HEADERS, length - HEADERS);
		return length - HEADERS;
	}
}

int main(int argc, char **argv)
{
	static struct mmsghdr headers[BATCH];
	static struct iovec vectors[BATCH];
	static unsigned char messages[BATCH][LONGEST];
	struct sockaddr_in to = { .sin_family = AF_INET };
	int udp = socket(AF_INET, SOCK_DGRAM, 0);
	size_t length = INITIATION;
	double began, ends, sent = 0;
	int captured;

	if (argc != 6 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
		return 64;
	to.sin_port = htons(atoi(argv[3]));
	if (connect(udp, (struct sockaddr *)&to, sizeof to) < 0)
		return 1;
	captured = strcmp(argv[1], "forged") == 0 || strcmp(argv[1], "replay") == 0;
	if (captured)
		length = capture(argv[5], atoi(argv[3]), messages[0]);
	else
		messages[0][0] = strcmp(argv[1], "mac") == 0 ? 1 : DATA;
	if (strcmp(argv[1], "forged") == 0)
		messages[0][11] ^= 1;
	for (int i = 0; i < BATCH; i++) {
		memcpy(messages[i], messages[0], length);
		vectors[i] = (struct iovec){ messages[i], length };
		headers[i].msg_hdr.msg_iov = &vectors[i];
		headers[i].msg_hdr.msg_iovlen = 1;
	}
	began = now();
	for (ends = began + atoi(argv[4]); now() < ends;) {
		for (int i = 0; !captured && i < BATCH; i++) {
			int any = random();

			memcpy(messages[i] + 4, &any, sizeof any);
		}
		int count = sendmmsg(udp, headers, BATCH, 0);
		sent += count > 0 ? count : 0;
	}
	printf("%.0f\n", sent / (now() - began));
	return 0;
}
