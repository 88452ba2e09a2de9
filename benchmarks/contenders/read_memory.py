"""How fast weights can be read: python read_memory.py THREADS

Every thread goes over a part of its own of 512 MB, far more than caches hold, as a product by a vector would.
"""
import concurrent.futures
import os
import sys
import time

threads = int(sys.argv[1])
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the threads are ours

import numpy as np  # noqa: E402
from serving import serve  # noqa: E402

parts = [np.ones(2**27 // threads, "float32") for _ in range(threads)]
pool = concurrent.futures.ThreadPoolExecutor(threads)


def measure():
    start = time.perf_counter()
    list(pool.map(lambda part: np.dot(part, part), parts))  # one array twice is read once
    return {"bytes_per_second": sum(part.nbytes for part in parts) / (time.perf_counter() - start)}


measure()
serve("kzoo's environment", ["numpy"], measure)
