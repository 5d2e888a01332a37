# fish completion for kedge: kedge completion fish | source

function __kedge_complete
	set -l words (commandline -opc)
	set -l cur (commandline -ct)
	set -l program $words[1]
	set -e words[1]
	set -l out ($program __complete $words "$cur" 2>/dev/null)
	or return
	set -l directive (string replace : '' -- $out[-1])
	set -e out[-1]
	if test (count $out) -gt 0
		printf '%s\n' $out
		return
	end
	set -l before (string match -r -- '^--[^=]*=' $cur)
	set -l path (string replace -r -- '^--[^=]*=' '' $cur)
	switch $directive
		case 0 2
			printf "$before%s\n" (__fish_complete_path $path)
		case 16 18
			printf "$before%s\n" (__fish_complete_directories $path '')
	end
end

complete -c kedge -f -a '(__kedge_complete)'
