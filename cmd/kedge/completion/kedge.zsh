#compdef kedge
# zsh completion for kedge: source <(kedge completion zsh), behind compinit; or as _kedge in $fpath

_kedge() {
	local out directive line
	local -a lines values
	out=$("${(Q)words[1]/#\~/$HOME}" __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null) || return 1
	lines=("${(@f)out}")
	directive=${lines[-1]#:}
	lines[-1]=()
	for line in "${lines[@]}"; do
		if [[ $line == *$'\t'* ]]; then
			values+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
		else
			values+=("${line//:/\\:}")
		fi
	done
	if ((directive & 2)); then
		_describe -V kedge values -S ''
	elif ((${#values} > 0)); then
		_describe -V kedge values
	elif ((!(directive & 4))); then
		[[ $PREFIX != --*=* ]] || compset -P '--*='
		if ((directive & 16)); then
			_files -/
		else
			_files
		fi
	fi
}

if [[ ${funcstack[1]} == _kedge ]]; then
	_kedge "$@"
else
	compdef _kedge kedge
fi
