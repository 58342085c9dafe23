#!/bin/sh
# Run once before the broker: hashes the passwords of the logins. The broker's health check has one, too, made here
# once; mosquitto_sub finds it in a file of its own name.
set -eu
umask 077
cd /mosquitto/data
if [ ! -s mosquitto_sub ]; then
  printf '%s\n' '-h 127.0.0.1' '-u health' "-P $(head -c 18 /dev/urandom | base64)" >mosquitto_sub.new
  mv mosquitto_sub.new mosquitto_sub
fi
cp /run/secrets/mqtt-users users.new
sed -n 's/^-P /health:/p' mosquitto_sub >>users.new
mosquitto_passwd -U users.new
mv users.new users
