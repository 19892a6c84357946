/** File systems that have a name in the place of a device; what is not listed may need one. */
const withoutDevice = new Set(
  (
    'autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl ' +
    'hugetlbfs mqueue none nsfs overlay proc pstore ramfs rpc_pipefs securityfs selinuxfs sysfs ' +
    'tmpfs tracefs virtiofs 9p ceph cifs nfs nfs4 smb3'
  ).split(' '),
);

/** Whether mount(2) looks for a block device in the source of a file system of this type. */
export function isBlockFileSystem(type: string): boolean {
  return !withoutDevice.has(type) && !type.startsWith('fuse');
}
