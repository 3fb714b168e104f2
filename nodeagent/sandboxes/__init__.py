"""What a pod's containers share: pinned namespaces, the pause process, the cgroup, and files such as /etc/hosts."""
