{"targets": [{"target_name": "fastsum", "sources": ["fastsum.c"]}]}
