"""What the functions of `answers` reach the outside by."""

import os
import threading

COUNT = {"calls": 0}


class Node:
    """An object without a hash of its own."""

    def __init__(self, number):
        self.number = number


def run_all(jobs):
    """Run the jobs side by side and return their answers in the order in which they came."""
    answers = []
    threads = [threading.Thread(target=lambda job=job: answers.append(job())) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def here():
    """Return the folder of this process."""
    return os.getcwd()


def count_call():
    """Return how often this was called."""
    COUNT["calls"] += 1
    return COUNT["calls"]
