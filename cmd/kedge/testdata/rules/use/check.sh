# Prints a line "check NAME: ok" for each check, or what went wrong.
index=$1
hsts=$2
check() {
    name=$1
    shift
    if out=$("$@" 2>&1); then echo "check $name: ok"; else echo "check $name: failed"; echo "$out"; fi
}

dpkg_verifies() { dpkg -V > /tmp/now; dpkg --audit >> /tmp/now; diff /installed.txt /tmp/now; }
apt_installs() { apt-get update -q && apt-get install -qy --no-install-recommends tini && tini --version && apt-get -q check && apt-cache show tini; }
apt_removes() { apt-get purge -qy hello && ! command -v hello && test -s /var/log/dpkg.log; }
apt_marks() { apt-mark showauto | grep -x groff-base; }
debconf_answers() { echo get kedge/none | debconf-communicate; echo 'base-passwd base-passwd/user-remove note' | debconf-set-selections; }

ldconfig_lists() { ldconfig -p | grep libk.so.1 && python3 -c 'import ctypes; ctypes.CDLL("libk.so.1").zlibVersion'; }
ldconfig_again() { ldconfig; test -s /var/cache/ldconfig/aux-cache && ldconfig -p | grep libk.so.1; }

font_is_found() { fc-list | grep /usr/local/share/fonts/DejaVuSans.ttf && fc-match 'DejaVu Sans' | grep DejaVuSans.ttf; }
font_as_user() { su - ada -c 'fc-list' | grep DejaVuSans.ttf; }
font_cache_again() { fc-cache -s && ls /var/cache/fontconfig/*.cache-* && fc-list | grep DejaVuSans.ttf; }

man_finds() { man -w kedge | grep 'man/man1/kedge.1$'; }
man_as_user() { su - ada -c 'man -w kedge' | grep 'man/man1/kedge.1$'; }
man_index() { mandb -q && man -k anchor | grep kedge; }

useradd_again() { useradd -m bob && id bob && su - bob -c id && userdel -r bob; }
passwords_are_dated() { date=$(chage -l ada | sed -n 's/^Last password change[^:]*: //p'); test "$date" = "Jan 01, 2024" && pwck -r -q; }
password_works() { printf 'secret\n' | timeout 10 su nobody -s /bin/sh -c 'su - ada -c id' | grep '(ada)'; }
gpg_takes_keys() { gpg --batch --import /usr/share/keyrings/debian-archive-keyring.gpg; gpg --list-keys | grep Debian && gpg --batch --check-trustdb; }
login_works() { command -v lastlog > /dev/null || return 0; id clerk && timeout 10 script -qec 'login -f clerk' /dev/null < /dev/null | grep '(clerk)' && test -s /var/log/lastlog; }
logins_are_recorded() { command -v lastlog > /dev/null || return 0; last -f /var/log/wtmp | grep clerk && lastlog -u clerk | grep -v Never | grep clerk; }
mail_arrives() { python3 -c 'import mailbox; b = mailbox.mbox("/var/mail/ada"); b.add("Subject: a\n\nb"); b.close()' && grep 'Subject: a' /var/mail/ada; }

dbus_has_an_id() { grep -E '^[0-9a-f]{32}$' /var/lib/dbus/machine-id && { test ! -s /etc/machine-id || cmp /etc/machine-id /var/lib/dbus/machine-id; }; }
dbus_tells_the_id() { dbus-run-session -- dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.Peer.GetMachineId | grep "$(cat /var/lib/dbus/machine-id)"; }
dbus_makes_an_id() { dbus-uuidgen --ensure && dbus-uuidgen --get | grep -E '^[0-9a-f]{32}$'; }
dbus_runs() { dbus-run-session -- dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames; }
systemd_makes_an_id() { systemd-machine-id-setup && grep -E '^[0-9a-f]{32}$' /etc/machine-id; }
seed_is_made() { test ! -e /var/lib/systemd/random-seed && /lib/systemd/systemd-random-seed load; /lib/systemd/systemd-random-seed save && test -s /var/lib/systemd/random-seed; }

# A compiled file is fresh where it names its source's time and size.
python_is_fresh() {
    python3 - <<'END'
import glob, importlib.util, os, struct, sys
fresh = 0
stale = []
for top in ["/usr/lib/python3", os.path.dirname(os.__file__), "/usr/local/lib", "/usr/share", "/opt"]:
    for path in glob.glob(top + "/**/*.pyc", recursive=True):
        with open(path, "rb") as f:
            magic, flags, time, size = struct.unpack("<4sIII", f.read(16))
        try:
            source = importlib.util.source_from_cache(path)
        except ValueError: # no name that Python looks for
            continue
        stat = os.stat(source)
        if flags == 3: # by hash
            continue
        if magic == importlib.util.MAGIC_NUMBER and flags == 0 and time == int(stat.st_mtime) and size == stat.st_size:
            fresh += 1
        else:
            stale.append(source)
# What was edited after it was compiled must be stale: the size is the same, and the code is not.
if sorted(stale) != ["/opt/app/at_once.py", "/opt/app/edited.py"] or fresh < 500:
    sys.exit(f"{fresh} are fresh, and stale are {stale}")
END
}
# module FOLDER NAME: Python takes the compiled file, and leaves it as it is.
module() {
    before=$(stat -c '%i %Y %Z' "$1"/__pycache__/"$2".*.pyc) &&
    PYTHONPATH=$1 python3 -v -c "import $2; assert $2.value == 1" 2>&1 | grep "$2.$(python3 -c 'import sys; print(sys.implementation.cache_tag)').pyc matches $1/$2.py" &&
    test "$before" = "$(stat -c '%i %Y %Z' "$1"/__pycache__/"$2".*.pyc)"
}
edited() { PYTHONPATH=/opt/app python3 -B -c "import $1; assert $1.value == 2, $1.value"; }
stdlib_is_taken() { python3 -v -c 'import json.decoder, email.message' 2>&1 | grep -E 'code object from.*/json/decoder.py' && exit 1; python3 -v -c 'import json.decoder' 2>&1 | grep 'json/__pycache__/decoder.cpython-3[0-9]*.pyc matches'; }
pip_package() { python3 -c 'import kedgemod; assert kedgemod.value == 1' && pip list | grep kedgemod && pip check && python3 -v -c 'import kedgemod' 2>&1 | grep 'kedgemod.cpython-3[0-9]*.pyc matches'; }
pip_installs() { export PIP_BREAK_SYSTEM_PACKAGES=1; pip uninstall -qy kedgemod && pip install -q --trusted-host 127.0.0.1 --index-url "$index" kedgemod; }

wget_fetches() { test ! -e /root/.wget-hsts && wget -q --no-check-certificate -O - "$hsts" | grep strict && grep localhost /root/.wget-hsts; }

gem_works() { ruby -e 'require "kedgegem"; exit KEDGE == 1' && gem list -i kedgegem && gem check kedgegem; }
gem_builds() { test ! -e /var/lib/gems/*/extensions/*/*/kedgegem-1.0/gem_make.out && gem pristine kedgegem --extensions && gem_works && cat /var/lib/gems/*/extensions/*/*/kedgegem-1.0/gem_make.out; }
configure_again() { cd /opt/configured && test ! -e config.log && touch a.in && ./config.status && grep -x 1 a && grep '^This file was extended' config.log && ./config.status --recheck; }
autoconf_again() { cd /opt/configured && test ! -e autom4te.cache/requests && autoconf -f && test -s autom4te.cache/requests && ./configure; }
ninja_is_done() { cd /opt/ninja && ninja | grep 'no work to do' && ninja -t deps | grep -x '    h'; }
ninja_builds() { cd /opt/ninja && touch h && ninja -n | grep '2/2' && ninja && ninja_is_done && echo a > a.in && ninja | grep '1/1'; }
java_trusts() { keytool -list -cacerts -storepass changeit > /tmp/trusted && grep '^kedge, Jan 1, 2024, trustedCertEntry' /tmp/trusted && test "$(grep -c trustedCertEntry /tmp/trusted)" -gt 100; }
java_trusts_more() { keytool -delete -cacerts -storepass changeit -alias kedge && update-ca-certificates --fresh && java_trusts_debian; }
java_trusts_debian() { keytool -list -cacerts -storepass changeit | grep -i '^debian:isrg_root_x1'; }
crontab_lists() { test "$(crontab -l)" = '5 4 * * * /usr/bin/true' && grep ' installed on Mon Jan  1 00:00:00 2024)' /var/spool/cron/crontabs/root && crontab -l | crontab -; }
pnpm_has_the_epoch() { printf 'layoutVersion: 5\nprunedAt: Mon, 01 Jan 2024 00:00:00 GMT\n' | cmp - /opt/pnpm/node_modules/.modules.yaml; }
gzip_is_whole() { gzip -t /opt/data.gz && test "$(zcat /opt/data.gz)" = data && cd /tmp && gunzip -N -k -f -c /opt/data.gz | grep data; }
gzip_has_the_epoch() { python3 -c 'import struct; assert struct.unpack("<I", open("/opt/data.gz", "rb").read(8)[4:])[0] == 1704067200'; }
scripts_are_whole() { python3 -c '
import tarfile
t = tarfile.open("/lib/apk/db/scripts.tar")
assert [(m.name, m.mode, m.mtime, t.extractfile(m).read()) for m in t] == [
    ("a-1.Q1abc=.post-install", 0o755, 1704067200, b"#!/bin/sh\necho a\n"),
    ("b-2.Q1def=.trigger", 0o755, 1704067200, b"#!/bin/sh\n")]' && tar -tf /lib/apk/db/scripts.tar; }
zip_is_whole() { python3 -m zipfile -t /opt/data.zip && PYTHONPATH=/opt/data.zip python3 -c 'import zipped; assert zipped.value == 1'; }
zip_has_the_epoch() { python3 -c 'import zipfile; i = zipfile.ZipFile("/opt/data.zip").infolist(); assert [x.date_time for x in i] == [(2024, 1, 1, 0, 0, 0)], i'; }
# repository FOLDER: git finds no edit where there is none, and each that there is.
repository() {
    cd "$1" && test -z "$(git status --porcelain)" && git fsck --strict && git diff --exit-code && git diff-index --exit-code HEAD &&
    head=$(git log -1 --format=%H) && file=$(git ls-files | grep '^file' | head -1) &&
    tr a-z A-Z < "$file" > /tmp/edited && cat /tmp/edited > "$file" && touch -d @1704067200 "$file" && test "$(git status --porcelain)" = " M $file" &&
    git diff | grep '^-[cm]o' && git stash -q && test -z "$(git status --porcelain)" && git stash pop -q && test "$(git status --porcelain)" = " M $file" &&
    git commit -qam edited && test "$(git rev-parse HEAD~1)" = "$head" && git checkout -q HEAD~1 && git checkout -q - && git reset -q --hard HEAD~1 &&
    git clean -nd && test -z "$(git status --porcelain)" && git reflog | grep edited && git gc -q && git fsck
}
git_module() { cd /opt/git/clone && git submodule status | grep '^ .* sub ' && echo edited > sub/file && git status --porcelain | grep '^ M sub' && git -C sub checkout -q file && git submodule update --recursive && test -z "$(git status --porcelain)"; }
git_log() { grep ' 1704067200 ' /opt/git/clone/.git/logs/HEAD && git -C /opt/git/clone reflog --date=iso | grep '2024-01-01 00:00:00'; }
git_pull() { cd /opt/git/origin && echo more > more && git add more && git commit -qm more && cd ../clone && git pull -q && grep more more && test -z "$(git status --porcelain)"; }

shell_history() { grep make /home/ada/.bash_history && su - ada -c 'HISTFILE=~/.bash_history timeout 10 bash -ic "history -s again; history -w" && grep again ~/.bash_history'; }
mine_is_there() { grep mine /tmp/mine && test ! -e /tmp/hsperfdata_root && grep off /root/.config/go/telemetry/mode && grep object /root/.cache/go-build/00/00aa-d; }

check python-is-fresh python_is_fresh
check python-stdlib stdlib_is_taken
for m in same later touched; do check "python-$m" module /opt/app "$m"; done
check python-base-older module /opt/base older
check python-base-newer module /opt/base newer
check python-edited-later edited edited
check python-edited-at-once edited at_once
check dpkg-V dpkg_verifies
check dbus-id dbus_has_an_id
check dbus-GetMachineId dbus_tells_the_id
check random-seed seed_is_made
check tmp mine_is_there
check ldconfig-p ldconfig_lists
check ldconfig ldconfig_again
check fc-list font_is_found
check fc-list-user font_as_user
check fc-cache font_cache_again
check man-w man_finds
check man-w-user man_as_user
check mandb man_index
check chage passwords_are_dated
check su password_works
check login login_works
check gpg gpg_takes_keys
check last logins_are_recorded
check useradd useradd_again
check mail mail_arrives
check dbus-uuidgen dbus_makes_an_id
check dbus-run-session dbus_runs
check systemd-machine-id-setup systemd_makes_an_id
check pip-package pip_package
check pip-install pip_installs
check wget wget_fetches
check gem gem_works
check gem-pristine gem_builds
check crontab crontab_lists
check pnpm pnpm_has_the_epoch
check config.status configure_again
check autoconf autoconf_again
check ninja ninja_is_done
check ninja-again ninja_builds
check keytool java_trusts
check update-ca-certificates java_trusts_more
check gzip gzip_is_whole
check gzip-epoch gzip_has_the_epoch
check zip zip_is_whole
check zip-epoch zip_has_the_epoch
check apk-scripts scripts_are_whole
check history shell_history
check git-log git_log
for tree in origin clone tree module clone/sub; do check "git-$tree" repository "/opt/git/$tree"; done
check git-submodule git_module
check git-pull git_pull
check apt-mark apt_marks
check debconf debconf_answers
check apt-get-install apt_installs
check apt-get-purge apt_removes
echo "checks: done"
