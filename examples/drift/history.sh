#!/bin/sh
# Makes a git repository in FOLDER with the history of an image: twenty weekly builds, or BUILDS of them.
#
#     sh history.sh FOLDER [BUILDS]
#     cd FOLDER && kedge drift log --report drift.html
set -eu
builds=${2:-20}
mkdir -p "$1"
cp "$(dirname "$0")/Dockerfile" "$1"
cd "$1"
git init -q .
mkdir -p app/node_modules etc/myapp
printf '.git\n' > .dockerignore

# library NAME VERSION LINES
library() {
	mkdir -p "app/node_modules/$1"
	printf '{"name": "%s", "version": "%s"}\n' "$1" "$2" > "app/node_modules/$1/package.json"
	seq "$3" | sed "s/^/exports.$1_/" > "app/node_modules/$1/index.js"
}

n=1
while [ "$n" -le "$builds" ]; do
	# The application grows a little each week.
	seq $((3000 + 40 * n)) | sed 's/^/call /' > app/server.js
	why="Week $n of the application"
	reason="a week's work"
	library express "4.$((18 + n / 5)).$((n % 5))" 4000
	library pg "8.$((11 + n / 7)).0" $((2500 + 300 * (n / 7)))
	printf 'port = 8080\ntimeout = %s\n' $((10 + 5 * (n / 6))) > etc/myapp/config.toml
	case $n in
	1) printf 'ID=debian\nVERSION_ID="12"\n' > etc/os-release ;;
	5) library sharp 0.33.2 9000; why="Pictures in three sizes" ;;
	8) # A label that is another in every build
		printf 'ARG GIT_COMMIT=none\nLABEL revision=$GIT_COMMIT\n' >> Dockerfile; why="Say which commit it is" ;;
	10) seq 12000 | sed 's/^/translate /' > app/locales.js; why="Seven languages" ;;
	13) printf 'ID=debian\nVERSION_ID="13"\n' > etc/os-release; why="Debian 13" ;;
	15) sed -i '/GIT_COMMIT/d' Dockerfile; why="The commit is an annotation now" ;;
	17) rm -r app/node_modules/sharp; why="Pictures are made elsewhere" ;;
	19) printf 'ENV NODE_OPTIONS=--max-old-space-size=512\n' >> Dockerfile; why="Less memory" ;;
	esac
	arg=
	if grep -q GIT_COMMIT Dockerfile; then arg="--build-arg GIT_COMMIT=week-$n"; fi
	kedge build -q $arg -t drift-example .
	kedge drift accept "$reason" > /dev/null
	git add -A
	date="2026-$(printf '%02d' $((1 + (n - 1) / 4)))-$(printf '%02d' $((1 + 7 * ((n - 1) % 4))))T12:00:00Z"
	GIT_AUTHOR_DATE=$date GIT_COMMITTER_DATE=$date git -c user.name=example -c user.email=example@example.org commit -q -m "$why"
	n=$((n + 1))
done
