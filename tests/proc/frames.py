# SPDX-License-Identifier: BSD-2-Clause
"""frames.py DEVICE STACK PEER COUNT SEED: sends COUNT hostile frames to the stack.

Random bytes; headers with lengths, versions and options that lie; fragments that overlap or never
end; correct segments that belong to no connection; SYN and RST with random sequence numbers at
ports that have one (RFC 5961: they must not break it). Everything is derived from SEED.
"""

import random
import socket
import struct
import subprocess
import sys


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(src, dst, protocol, payload, **lie):
    header = struct.pack(
        "!BBHHHBBH4s4s",
        lie.get("version", 4) << 4 | lie.get("ihl", 5),
        0,
        lie.get("length", 20 + len(payload)),
        lie.get("id", 1),
        lie.get("fragment", 0),
        lie.get("ttl", 64),
        protocol,
        0,
        src,
        dst,
    )
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def tcp(src, dst, sport, dport, seq, flags, payload=b"", offset=5):
    segment = struct.pack("!HHIIBBHHH", sport, dport, seq, 0, offset << 4, flags, 1000, 0, 0) + payload
    pseudo = src + dst + struct.pack("!BBH", 0, 6, len(segment))
    return segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]


class Hostile:
    def __init__(self, rng, src, dst, ports):
        self.rng, self.src, self.dst, self.ports = rng, src, dst, ports

    def random_bytes(self):
        return 0x0800, self.rng.randbytes(self.rng.randrange(0, 1500))

    def unknown_type(self):
        return self.rng.randrange(0x600, 0xFFFF), self.rng.randbytes(self.rng.randrange(46, 1500))

    def lying_header(self):
        rng = self.rng
        lie = rng.choice(
            (
                {"version": rng.randrange(16)},
                {"ihl": rng.randrange(16)},
                {"length": rng.randrange(65536)},
                {"ttl": rng.randrange(2)},
            )
        )
        return 0x0800, ipv4(self.src, self.dst, rng.choice((1, 6, 17, 255)), rng.randbytes(100), **lie)

    def fragment(self):
        rng = self.rng
        where = rng.choice((0, 1, 2, 184, 185, 8189, 8191)) | rng.choice((0, 0x2000))
        payload = rng.randbytes(rng.choice((8, 9, 100, 1400)))
        return 0x0800, ipv4(
            self.src, self.dst, rng.choice((1, 6, 17)), payload, id=rng.randrange(16), fragment=where
        )

    def stray_segment(self):
        rng = self.rng
        segment = tcp(
            self.src,
            self.dst,
            rng.randrange(1, 1024),
            rng.randrange(1, 65536),
            rng.getrandbits(32),
            rng.randrange(256),
            rng.randbytes(rng.randrange(200)),
            rng.randrange(16),
        )
        return 0x0800, ipv4(self.src, self.dst, 6, segment)

    def blind_attack(self):
        rng = self.rng
        sport, dport = rng.choice(self.ports)
        segment = tcp(self.src, self.dst, sport, dport, rng.getrandbits(32), rng.choice((0x02, 0x04, 0x14)))
        return 0x0800, ipv4(self.src, self.dst, 6, segment)

    def bad_datagram(self):
        rng = self.rng
        datagram = struct.pack("!HHHH", 53, rng.randrange(65536), rng.randrange(65536), rng.randrange(65536))
        return 0x0800, ipv4(self.src, self.dst, 17, datagram + rng.randbytes(rng.randrange(64)))

    def bad_icmp(self):
        rng = self.rng
        message = bytes([rng.randrange(20), rng.randrange(16)]) + rng.randbytes(rng.randrange(2, 80))
        return 0x0800, ipv4(self.src, self.dst, 1, message)

    def bad_arp(self):
        # Never a claim to be the peer: that is an attack which Ethernet itself does not withstand.
        rng = self.rng
        body = struct.pack("!HHBBH", 1, 0x0800, rng.choice((6, 0, 255)), rng.choice((4, 0, 255)), rng.randrange(4))
        sender = b"\x02" + rng.randbytes(5) + bytes([10, 9, 0, rng.randrange(100, 200)])
        return 0x0806, body + sender + bytes(6) + self.dst + rng.randbytes(rng.randrange(20))


def live_ports(peer, stack):
    """(peer's port, stack's port) of the connections that exist, as the peer's kernel knows them."""
    out = subprocess.run(["ss", "-Htn", "dst", stack], capture_output=True, text=True, check=True).stdout
    return [
        (int(line.split()[3].rsplit(":", 1)[1]), int(line.split()[4].rsplit(":", 1)[1]))
        for line in out.splitlines()
    ]


def neighbour(stack):
    out = subprocess.run(["ip", "neigh", "show", stack], capture_output=True, text=True, check=True).stdout
    return bytes.fromhex(out.split("lladdr ")[1].split()[0].replace(":", ""))


def main():
    device, stack, peer, count, seed = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    rng = random.Random(seed)
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    wire.bind((device, 0))
    own = wire.getsockname()[4]
    ports = live_ports(peer, stack)
    if not ports:
        sys.exit("no connection to attack")
    hostile = Hostile(rng, socket.inet_aton(peer), socket.inet_aton(stack), ports)
    kinds = [
        hostile.random_bytes,
        hostile.unknown_type,
        hostile.lying_header,
        hostile.fragment,
        hostile.stray_segment,
        hostile.blind_attack,
        hostile.bad_datagram,
        hostile.bad_icmp,
        hostile.bad_arp,
    ]
    target = neighbour(stack)
    dropped = 0
    for _ in range(count):
        ethertype, payload = rng.choice(kinds)()
        destination = target if rng.random() < 0.95 else rng.choice((b"\xff" * 6, rng.randbytes(6)))
        try:
            wire.send(destination + own + struct.pack("!H", ethertype) + payload)
        except OSError:  # ENOBUFS: the device's queue is full
            dropped += 1
    print(f"seed {seed}: {count - dropped} hostile frames at {len(ports)} connections")


main()
