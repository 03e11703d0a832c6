#!/bin/sh
# Writes what a slapos node of four partitions needs to run as an ordinary user, without touching users or networks.
#   sh examples/configure-node.sh COMP-1 MASTER_URL FOLDER      (a short FOLDER: supervisord's socket is in it)
set -eu
computer=$1 master_url=$2 folder=$3 user=$(id -un)
mkdir -p "$folder/soft" "$folder/inst" "$folder/run"
umask 077
cat > "$folder/slapos.cfg" <<CFG
[slapos]
computer_id = $computer
master_url = $master_url
software_root = $folder/soft
instance_root = $folder/inst
root_check = false
pidfile_software = $folder/run/software.pid
pidfile_instance = $folder/run/instance.pid
pidfile_report = $folder/run/report.pid
software_min_free_space = 1M
instance_min_free_space = 1M

[slapformat]
partition_amount = 4
alter_user = False
alter_network = False
create_tap = False
computer_xml = $folder/slapos.xml
input_definition_file = $folder/definition.cfg
interface_name = lo
ipv4_local_network = 10.0.0.0/16
partition_base_name = slappart
user_base_name = slapuser
tap_base_name = slaptap
CFG
{
  printf '[computer]\naddress = 127.0.0.1/255.255.255.255\nsoftware_user = %s\n' "$user"
  for number in 0 1 2 3; do
    printf '[partition_%s]\naddress = 127.0.0.1/255.255.255.255 ::1/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\n' "$number"
    printf 'pathname = slappart%s\nuser = %s\nnetwork_interface = slaptap%s\n' "$number" "$user" "$number"
  done
} > "$folder/definition.cfg"
echo "$folder/slapos.cfg"
