#!/bin/sh
# Makes what deploy/compose/sasl.yml needs, with openssl: an authority, the certificates of the
# broker and of who manages it, a user and a password for each worker. What is there is kept.
#   sh deploy/compose/secrets.sh [FOLDER]
# FOLDER is deploy/compose/secrets by default; name another to compose by SESSIONTAPE_SECRETS.
set -eu
umask 077

workers="coordinator tables upkeep producer feeder sink sender reader operator"
namespace=${SESSIONTAPE_NAMESPACE:-tape}
folder=${1:-$(dirname "$0")/secrets}
# It keeps others out. What containers are given of it is theirs to read, whoever they run as.
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"
folder=$(pwd)

cat >openssl.cnf <<'END'
[req]
prompt = no
distinguished_name = subject
[subject]
CN = authority of this sessiontape
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[kafka]
basicConstraints = critical,CA:false
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = DNS:kafka,DNS:localhost,IP:127.0.0.1
[admin]
basicConstraints = critical,CA:false
extendedKeyUsage = clientAuth
END

key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

if [ ! -e ca.pem ]; then
    key ca.key
    openssl req -x509 -new -key ca.key -days 3650 -config openssl.cnf -extensions authority -out ca.pem
    rm -f kafka.pem admin.pem
fi
for name in kafka admin; do
    [ ! -e "$name.pem" ] || continue
    key "$name.key"
    openssl req -new -key "$name.key" -config openssl.cnf -subj "/CN=$name" -out "$name.csr"
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" \
        -days 825 -extfile openssl.cnf -extensions "$name" -out "$name.crt" 2>/dev/null
    cat "$name.key" "$name.crt" >"$name.pem"
    rm "$name.key" "$name.csr" "$name.crt"
done
rm openssl.cnf

touch passwords
for worker in $workers; do
    user="$namespace-$worker"
    grep -q "^$user=" passwords || echo "$user=$(openssl rand -hex 24)" >>passwords
    # For the container of the worker, and for a shell on the host.
    cat >"$worker.env" <<END
SESSIONTAPE_SECURITY_PROTOCOL=SASL_SSL
SESSIONTAPE_SASL_MECHANISM=SCRAM-SHA-512
SESSIONTAPE_SASL_USERNAME=$user
SESSIONTAPE_SASL_PASSWORD=$(sed -n "s/^$user=//p" passwords)
SESSIONTAPE_SSL_CA_LOCATION=$folder/ca.pem
END
done
chmod 644 ca.pem kafka.pem admin.pem passwords
echo "certificates, users and passwords are in $folder"
