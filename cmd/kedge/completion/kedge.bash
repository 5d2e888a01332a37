# bash completion for kedge: source <(kedge completion bash)

_kedge() {
	local line=${COMP_LINE:0:COMP_POINT} IFS=$' \t\n'
	local -a words=()
	read -ra words <<<"$line"
	[[ $line != *[[:space:]] ]] || words+=("")
	local program=${words[0]/#\~/$HOME} cur=${words[${#words[@]} - 1]} out
	COMPREPLY=()
	out=$("$program" __complete "${words[@]:1}" 2>/dev/null) || return
	local directive=${out##*:}
	out=${out%:*}

	# What readline replaces begins behind the last of these in the word.
	local breaks="" done=""
	[[ $COMP_WORDBREAKS != *=* ]] || breaks+="="
	[[ $COMP_WORDBREAKS != *:* ]] || breaks+=":"
	[[ -z $breaks ]] || done=${cur%"${cur##*[$breaks]}"}

	local word
	while IFS=$'\t' read -r word _; do
		[[ -z $word ]] || COMPREPLY+=("${word#"$done"}")
	done <<<"$out"
	if ((directive & 2)); then
		compopt -o nospace 2>/dev/null
	fi
	if ((${#COMPREPLY[@]} == 0 && !(directive & 4))); then
		local kind=-f
		((!(directive & 16))) || kind=-d
		compopt -o filenames 2>/dev/null
		while IFS= read -r word; do
			COMPREPLY+=("$word")
		done < <(compgen $kind -- "${cur#"$done"}")
	fi
}

complete -F _kedge kedge
