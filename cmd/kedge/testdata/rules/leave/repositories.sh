# Makes /opt/git/origin, with commits that are the same every time, and /opt/git/clone.
set -e
git config --system user.name kedge
git config --system user.email kedge@example.com
git config --system protocol.file.allow always
git config --system init.defaultBranch main
export GIT_AUTHOR_DATE="2024-01-02T03:04:05Z" GIT_COMMITTER_DATE="2024-01-02T03:04:05Z"
git init -q /opt/git/module
cd /opt/git/module
echo module > file
git add file
git commit -qm module
git init -q /opt/git/origin
cd /opt/git/origin
for i in 1 2 3 4 5; do echo "content $i" > "file$i"; done
touch empty
git submodule --quiet add /opt/git/module sub
git add -A
git commit -qm first
unset GIT_AUTHOR_DATE GIT_COMMITTER_DATE
git clone -q --recurse-submodules /opt/git/origin /opt/git/clone
cd /opt/git/clone
git worktree add -q ../tree -b tree
