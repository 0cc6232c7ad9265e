# SPDX-License-Identifier: BSD-2-Clause
"""server.py PORT [forbidden]: an application of the workload, on TCP and UDP.

The first byte of a connection says what it is: "e" echoes until the end of the stream; "h" waits for the
end, then answers into the half-closed connection, slowly. Datagrams are echoed. It prints nothing
more than that it listens, unless a connection ends in an error. "forbidden": it listens where the packet filter lets
nothing through, and says so when something comes.
"""

import asyncio
import sys

HALF_CLOSED_PARTS = 40
FORBIDDEN = sys.argv[2:] == ["forbidden"]


async def serve(reader, writer):
    try:
        if FORBIDDEN:
            print("let through: a connection", flush=True)
        kind = await reader.readexactly(1)
        if kind == b"e":
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        elif kind == b"h":
            await reader.read()
            for part in range(HALF_CLOSED_PARTS):
                writer.write(bytes([part]) * 1000)
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
    except asyncio.IncompleteReadError:
        writer.close()  # somebody looked whether we listen
    except OSError as error:
        print(f"connection: {error}", flush=True)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        if FORBIDDEN:
            print("let through: a datagram", flush=True)
        self.transport.sendto(data, addr)

    def error_received(self, exc):
        print(f"datagram: {exc}", flush=True)


async def main():
    port = int(sys.argv[1])
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Echo, local_addr=("0.0.0.0", port))
    server = await asyncio.start_server(serve, "0.0.0.0", port)
    print("listening", flush=True)
    await server.serve_forever()


asyncio.run(main())
