"""Throughput of the server with 1, 8 and 64 clients, relative to the engine alone, in turns.

    python benchmarks/serve.py RUN FOLDER [--rounds 5] [--images 100] [--clients 1,8,64]
    python benchmarks/serve.py RUN FOLDER --requests 30000 [--json FILE]

The server is `atrous serve` in a new process, with its default limits. The engine alone is
`predict_mask` on decoded images in this process, while the server is idle. The clients are threads
of a third process, with one open connection each; they send files and read masks. HTTP, decoding,
encoding and the clients use the same cores as the network. `CPU ms` is the CPU time per image of
the process that runs the network, which hardly depends on other load of the machine.

With --requests, 8 clients send that many images, and the memory of the server is recorded.
"""

import argparse
import http.client
import itertools
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--max-images", type=int, default=20, help="different images")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=100, help="per measurement")
    parser.add_argument(
        "--clients", type=parse_numbers, default="1,8,64", help="numbers of clients"
    )
    parser.add_argument("--requests", type=int, help="measure memory over this many requests")
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--precision", default="32")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    from atrous.cli.allocator import keep_freed_memory
    from atrous.data.pairs import list_image_files  # imported here: clients do not need torch

    keep_freed_memory()  # as the server does

    paths = list_image_files(arguments.folder)[: arguments.max_images]
    server, port = start_server(arguments)
    try:
        measure = measure_memory if arguments.requests else measure_throughput
        content = measure(arguments, paths, server.pid, port)
    finally:
        server.terminate()
        exit_code = server.wait()
    content["server_exit_code"] = exit_code
    if arguments.json:
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def parse_numbers(text):
    return [int(number) for number in text.split(",")]


def start_server(arguments):
    command = [sys.executable, "-m", "atrous", "serve", arguments.run, "--port", "0"]
    command += ["--engine", arguments.engine, "--precision", arguments.precision]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    line = server.stderr.readline()
    if (found := re.search(r"Ready at http://127.0.0.1:(\d+)", line)) is None:
        sys.exit(line + server.stderr.read())
    return server, int(found[1])


def measure_throughput(arguments, paths, pid, port):
    from atrous.engines import open_engine
    from atrous.images import read_image

    engine = open_engine(arguments.run, arguments.engine, precision=arguments.precision)
    images = [read_image(path) for path in paths]
    loads = ["engine", *arguments.clients]
    throughputs = {load: [] for load in loads}
    latencies = {clients: [] for clients in arguments.clients}
    cpu_s = {load: [] for load in loads}
    errors = 0
    run_engine(engine, images, len(images))
    send_all(paths, port, len(paths), 8)
    for _ in range(arguments.rounds):
        for load in loads:
            worker = os.getpid() if load == "engine" else pid
            num_images = arguments.images if load == "engine" else max(arguments.images, 2 * load)
            before_s = read_cpu_s(worker)
            if load == "engine":
                throughputs[load].append(run_engine(engine, images, num_images))
            else:
                result = send_all(paths, port, num_images, load)
                throughputs[load].append(result["throughput"])
                latencies[load] += result["latencies_s"]
                errors += result["errors"]
            cpu_s[load].append((read_cpu_s(worker) - before_s) / num_images)
    print(f"{engine.card.name}, {engine.name} {engine.precision}, {images[0].shape[-1]} × ", end="")
    print(f"{images[0].shape[-2]} pixels, {arguments.rounds} rounds, {errors} errors")
    print(f"{'':12}{'images/s':>12}{'of engine':>10}{'CPU ms':>10}{'p50 ms':>10}{'p99 ms':>10}")
    rows = []
    engine_throughput = statistics.median(throughputs["engine"])
    for load in loads:
        row = {"clients": load, "throughput": statistics.median(throughputs[load])}
        shares = [a / b for a, b in zip(throughputs[load], throughputs["engine"], strict=True)]
        row["share"] = statistics.median(shares)
        line = f"{load if load == 'engine' else f'{load} clients':12}{row['throughput']:12.2f}"
        row["cpu_s"] = statistics.median(cpu_s[load])
        line += f"{row['share']:10.1%}{1000 * row['cpu_s']:10.1f}"
        if load != "engine":
            row["p50_s"], row["p99_s"] = find_percentiles(latencies[load])
            line += f"{1000 * row['p50_s']:10.0f}{1000 * row['p99_s']:10.0f}"
        rows.append(row)
        print(line)
    return {
        "engine_throughput": engine_throughput,
        "rows": rows,
        "errors": errors,
        "all": throughputs,
    }


def measure_memory(arguments, paths, pid, port):
    send_all(paths, port, 64, 8)
    samples, done = [], threading.Event()

    def watch():
        start_s = time.monotonic()
        while not done.wait(1):
            samples.append((round(time.monotonic() - start_s, 1), read_rss_mb(pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = send_all(paths, port, arguments.requests, 8)
    done.set()
    watcher.join()
    samples = samples or [(0.0, read_rss_mb(pid))]
    tenths = [samples[len(samples) * tenth // 10][1] for tenth in range(10)] + [samples[-1][1]]
    p50_s, p99_s = find_percentiles(result["latencies_s"])
    print(
        f"{arguments.requests} requests in {samples[-1][0]:.0f} s, {result['errors']} errors, ",
        end="",
    )
    print(f"{result['throughput']:.2f} images/s, p50 {p50_s:.3f} s, p99 {p99_s:.3f} s")
    print("memory of the server in MB, over time:", *(f"{value:.0f}" for value in tenths))
    del result["latencies_s"]
    return {**result, "p50_s": p50_s, "p99_s": p99_s, "rss_mb": samples}


def run_engine(engine, images, num_images):
    start_s = time.perf_counter()
    for image in itertools.islice(itertools.cycle(images), num_images):
        engine.predict_mask(image)
    return num_images / (time.perf_counter() - start_s)


def send_all(paths, port, num_requests, num_clients):
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    files = [path.read_bytes() for path in paths]
    arguments = (sender, files, port, num_requests, num_clients)
    process = context.Process(target=run_clients, args=arguments)
    process.start()
    result = receiver.recv()
    process.join()
    return result


def run_clients(sender, files, port, num_requests, num_clients):
    numbers = iter(range(num_requests))  # next() is atomic
    latencies_s, errors = [], []
    barrier = threading.Barrier(num_clients + 1)

    def run_client():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        connection.connect()
        barrier.wait()
        for number in numbers:
            start_s = time.perf_counter()
            connection.request("POST", "/v1/segment", files[number % len(files)])
            response = connection.getresponse()
            content = response.read()
            latencies_s.append(time.perf_counter() - start_s)
            if response.status != 200 or content[:4] != b"\x89PNG":
                errors.append(response.status)
        connection.close()

    threads = [threading.Thread(target=run_client) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    barrier.wait()
    start_s = time.perf_counter()
    for thread in threads:
        thread.join()
    elapsed_s = time.perf_counter() - start_s
    missing = num_requests - len(latencies_s)
    sender.send(
        {
            "throughput": len(latencies_s) / elapsed_s,
            "latencies_s": latencies_s,
            "errors": len(errors) + missing,
        }
    )


def find_percentiles(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def read_cpu_s(pid):
    """Return the CPU time of a process, over all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_rss_mb(pid):
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
